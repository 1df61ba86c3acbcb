-- Whether a tenant's closing entry covers this place of its ledger: what stood there may be past retention.
select exists (select from closings where tenant_id = :tenant_id and seq >= :seq) as closed
