-- Resolves an open finding; no row: it was resolved by somebody else.
update findings set resolved_at = dpp.now(), resolution = :resolution::text::jsonb
 where finding_id = :finding_id and resolved_at is null
returning finding_id
