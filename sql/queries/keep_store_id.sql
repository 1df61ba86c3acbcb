-- First use of a store: its id is kept for good. Of two nodes at once, one is heard.
insert into stores (name, store_id) values (:name, :store_id) on conflict (name) do nothing
