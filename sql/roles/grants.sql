-- In database dpp, which dpp_owner owns: the roles may connect and nobody else; only the owner may make anything.
revoke all on database dpp from public;
grant connect on database dpp to dpp_app, dpp_audit;
revoke create on schema public from public;
