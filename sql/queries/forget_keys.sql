-- Forget keys whose run left :days ago, a bounded batch. See dpp.forget_keys.
select dpp.forget_keys(:days::int, :most::int) as keys
