-- One open finding a (invariant, subject). Touches no money and freezes nobody.
insert into findings (finding_id, invariant, subject, tenant_id, evidence, opened_at)
values (:finding_id, :invariant, :subject, :tenant_id, :evidence::text::jsonb, dpp.now())
on conflict do nothing
