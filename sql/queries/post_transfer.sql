-- A deposit or a withdrawal, the budget locked. :sign says which way `deposited` and `available` move, together.
with posted as (
  insert into transfers (tenant_id, seq, kind, amount, reference, reason, operator, created_at)
  values (:tenant_id, :seq, :kind, :amount, :reference, :reason, :operator, dpp.now())
  returning tenant_id, seq, amount
)
update budgets b
   set deposited = b.deposited + :sign::bigint * posted.amount,
       available = b.available + :sign::bigint * posted.amount,
       seq = posted.seq
  from posted
 where b.tenant_id = posted.tenant_id
returning b.tenant_id, b.deposited, b.available, b.held, b.spent
