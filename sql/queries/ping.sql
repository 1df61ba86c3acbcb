select dpp.now() as now
