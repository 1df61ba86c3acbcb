-- The trail, newest first.
select mode, reason, operator, set_at, expires_at from modes order by n desc limit :limit::int
