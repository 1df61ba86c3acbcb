"""The admin API, on the management listener alone: tenants, keys, money, the books.

A quart-trio app (`app`) of one module a resource. Same decoder, same problems as the public API;
every write says who asks and why. What an outage left unknown is asked again under the same
identity before anything is answered (`desk.insist`).
"""
