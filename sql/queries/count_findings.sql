select count(*) as findings from findings where resolved_at is null
