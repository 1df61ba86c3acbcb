"""What a node does: one actor, one module, one async function. None of them knows another.

`mailbox`, `batches`, `lane`, `wake` and `supervisor` are what actors are made of. `intake` admits
submissions, `settler` ends attempts, both in lanes of tenants. `tenure` keeps the node's lease and
owns its runs; inside it `claimer` claims, going round the `ring` of tenants, and `executor`
performs. `attempts` is the one thing that these share. `follower` is the node's one ear and speaks
to the `watchboard`, where handlers wait; `reaper` takes back what others lost. `clock` is the
database's time as this node reckons it. `node` nests them: the nesting is the order of shutdown.
"""
