"""The audit of judgements: which are probably wrong, a page on which a person decides, and lists that apply it.

It reads the out-of-fold predictions of finished runs, so it needs torch only where it trains them itself.
"""

from zhichun.judgements.audit.audit_folder import audit

__all__ = ["audit"]
