-- The id of a store of results; none before its first use.
select store_id from stores where name = :name
