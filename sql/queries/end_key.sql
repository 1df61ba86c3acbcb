-- Never later than it would have ended anyhow.
update api_keys set expires_at = least(expires_at, :expires_at) where key_id = :key_id returning key_id
