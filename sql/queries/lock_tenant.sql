-- Before the last open finding is looked for: who opens one freezes this row, so in a later statement none is missed.
select frozen_at is not null as frozen from tenants where tenant_id = :tenant_id for no key update
