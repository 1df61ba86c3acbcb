"""A paid submit as one would write it: FastAPI, asyncpg's pool, one money transaction a request.

Serve it with `uvicorn bench.peers.ledger_app:app`; PEER_DSN names the database. It does what
`POST /v1/runs` must: look the key up, lock the tenant's budget, see whether the idempotency key is
known, reserve, write run and ledger entry, answer with the run. Validated by pydantic, as FastAPI
users do.
"""

import hashlib
import json
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Annotated, Any

import asyncpg
from fastapi import FastAPI, Header, HTTPException
from pydantic import BaseModel, ConfigDict, Field

SCHEMA = """
create table keys (key_sha256 bytea primary key, tenant_id text not null);
create table budgets (
  tenant_id text primary key, available bigint not null check (available >= 0),
  held bigint not null);
create table runs (
  run_id uuid primary key, tenant_id text not null, idempotency_key text not null,
  fingerprint bytea not null, pack_type text not null, inputs jsonb not null,
  max_cost bigint not null, status text not null, created_at timestamptz not null default now(),
  unique (tenant_id, idempotency_key));
create index runs_queue on runs (tenant_id, created_at) where status = 'QUEUED';
create table ledger (
  id bigint generated always as identity primary key, tenant_id text not null, run_id uuid not null,
  kind text not null, amount bigint not null, created_at timestamptz not null default now());
"""
POOL = 8  # as many connections as a node of DPP has


class Submission(BaseModel):
    """What comes in."""

    model_config = ConfigDict(extra="forbid")

    pack_type: str
    inputs: dict[str, Any]
    max_cost_usd: Annotated[Decimal, Field(gt=0, le=1_000_000, decimal_places=6)]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Hold the pool."""
    async with asyncpg.create_pool(os.environ["PEER_DSN"], min_size=POOL, max_size=POOL) as pool:
        app.state.pool = pool
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/v1/runs", status_code=201)
async def submit(
    body: Submission,
    authorization: Annotated[str, Header()],
    idempotency_key: Annotated[str, Header()],
) -> dict[str, Any]:
    """Reserve and queue."""
    secret = hashlib.sha256(authorization.removeprefix("Bearer ").encode()).digest()
    micros = int(body.max_cost_usd * 1_000_000)
    inputs = json.dumps(body.inputs, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(f"{body.pack_type}{inputs}{micros}".encode()).digest()
    async with app.state.pool.acquire() as connection, connection.transaction():
        tenant = await connection.fetchval(
            "select tenant_id from keys where key_sha256 = $1", secret
        )
        if tenant is None:
            raise HTTPException(401)
        budget = await connection.fetchrow(
            "select available from budgets where tenant_id = $1 for update", tenant
        )
        earlier = await connection.fetchrow(
            "select run_id, fingerprint, status from runs"
            " where tenant_id = $1 and idempotency_key = $2",
            tenant,
            idempotency_key,
        )
        if earlier is not None:
            if earlier["fingerprint"] != digest:
                raise HTTPException(422)
            return {"run_id": str(earlier["run_id"]), "status": earlier["status"]}
        if budget["available"] < micros:
            raise HTTPException(402)
        run_id = uuid.uuid4()
        await connection.execute(
            "update budgets set available = available - $2, held = held + $2 where tenant_id = $1",
            tenant,
            micros,
        )
        await connection.execute(
            "insert into runs (run_id, tenant_id, idempotency_key, fingerprint, pack_type, inputs,"
            " max_cost, status) values ($1, $2, $3, $4, $5, $6, $7, 'QUEUED')",
            run_id,
            tenant,
            idempotency_key,
            digest,
            body.pack_type,
            inputs,
            micros,
        )
        await connection.execute(
            "insert into ledger (tenant_id, run_id, kind, amount) values ($1, $2, 'reserve', $3)",
            tenant,
            run_id,
            micros,
        )
    return {
        "run_id": str(run_id),
        "status": "QUEUED",
        "pack_type": body.pack_type,
        "idempotency_key": idempotency_key,
        "cost": {"max_usd": str(body.max_cost_usd), "held_usd": str(body.max_cost_usd)},
    }
