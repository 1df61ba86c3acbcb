"""The proof block: which inputs, which method, which arithmetic.

Canonical inputs are the inputs with every optional member filled in and every number a double, as
canonical JSON (`fingerprints`): `1` and `1.0` are the same weight, and leaving `method` out is the
same as asking for `weighted_sum`.
"""

from hashlib import sha256

from attrs import asdict

from dpp.fingerprints import canonical
from dpp.packs.decision.methods import DIGITS, METHODS
from dpp.packs.decision.model import DecisionInputs, Proof

PACK = "decision"
VERSION = "1.0.0"  # rises with every change that may change a byte of a result
TIES = "equal scores: what fewer options dominate comes first; else a shared rank, in input order"


def canonical_inputs(inputs: DecisionInputs) -> bytes:
    """Return the bytes that `inputs_sha256` covers."""
    return canonical(asdict(inputs))


def prove(inputs: DecisionInputs) -> Proof:
    """Return the proof of the result that these inputs have under this version."""
    return Proof(
        pack=PACK,
        pack_version=VERSION,
        method=inputs.method,
        normalisation=METHODS[inputs.method].normalisation,
        significant_digits=DIGITS,
        ties=TIES,
        inputs_sha256=sha256(canonical_inputs(inputs)).hexdigest(),
    )
