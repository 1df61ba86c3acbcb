-- A transfer, the budget locked, and what it moves: :deposited, :available and :spent say how many times its amount each
-- part grows by, 1, 0 or -1.
with posted as (
  insert into transfers (tenant_id, seq, kind, amount, run_id, reference, reason, operator, created_at)
  values (:tenant_id, :seq, :kind, :amount, :run_id, :reference, :reason, :operator, dpp.now())
  returning tenant_id, seq, amount
)
update budgets b
   set deposited = b.deposited + :deposited::bigint * posted.amount,
       available = b.available + :available::bigint * posted.amount,
       spent = b.spent + :spent::bigint * posted.amount,
       seq = posted.seq
  from posted
 where b.tenant_id = posted.tenant_id
returning b.tenant_id, b.deposited, b.available, b.held, b.spent
