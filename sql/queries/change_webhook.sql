-- Changes what is given of an endpoint; null stays. Enabled again it has no reason left; disabled twice it keeps its first.
update webhooks w
   set url = coalesce(:url::text, w.url),
       events = coalesce(:events::text[], w.events),
       disabled_at = case when :enabled::bool then null
                          when not :enabled::bool then coalesce(w.disabled_at, dpp.now())
                          else w.disabled_at
                     end,
       disabled_reason = case when :enabled::bool then null
                              when not :enabled::bool then coalesce(w.disabled_reason, :reason)
                              else w.disabled_reason
                         end
 where w.tenant_id = :tenant_id and w.webhook_id = :webhook_id and w.deleted_at is null
returning w.webhook_id
