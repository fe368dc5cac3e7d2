"""Code that several services share: ids, pages, references, idempotency, signatures."""
