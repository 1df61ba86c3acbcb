-- One open finding a (invariant, subject). Touches no money and freezes nobody.
insert into findings (invariant, subject, tenant_id, evidence, opened_at)
values (:invariant, :subject, :tenant_id, :evidence::text::jsonb, dpp.now())
on conflict (invariant, subject) where resolved_at is null do nothing
returning finding_id
