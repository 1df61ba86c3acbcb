-- What an allowance has used, written anew from the facts that name it; its tenant's budget is locked.
update allowances set used = :used
 where tenant_id = :tenant_id and allowance_id = :allowance_id
returning allowance_id
