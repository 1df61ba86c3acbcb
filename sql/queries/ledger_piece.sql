-- Where a piece of a ledger ends: the number of its last fact behind :after, at most :facts of them.
select max(seq) as last
  from (select seq from ledger where tenant_id = :tenant_id and seq > :after order by seq limit :facts::int) as piece
