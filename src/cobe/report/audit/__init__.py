"""The audit: every figure published and recomputed, the controls, the ledger of claims."""
