"""HTTP: what clients and operators talk to.

`listener` builds the sockets and accepts; `connection` is the actor of one connection, with `inbox`
(what came in), `heads` (what a request head must be), `bodies`, `exchange` (one request as an ASGI
app sees it) and `replies` (the bytes that go out). `routes` is the table, `dispatch` serves it.
Handlers stand one resource a module (`runs`, `batches`, `budget`, `transfers`, `service`) over
`decoder`, `wire` (what comes in), `views` (what goes out), `problems`, `auth` and `limits`.
`management` and `admin` serve the operators' listener. Nothing here knows actors or the store.
"""
