"""The settings of `zhichun serve`, which can be passed to worker processes."""

import ipaddress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from zhichun.core.errors import UserError
from zhichun.core.settings import require_range
from zhichun.data.readers.rejected import OnBadRows
from zhichun.score.folders import fingerprint_of
from zhichun.score.scorer import PairScorer, load_scorer
from zhichun.serve.http.admission import LOOPBACK, OPEN, VARIABLE, Keys
from zhichun.serve.http.limits import Limits
from zhichun.serve.page.catalogue_search import Catalogue
from zhichun.serve.queue.service import Service


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """What is served, where, and to whom.

    Parameters
    ----------
    run
        Folder of `zhichun train`, `zhichun export` or `zhichun ensemble`.
    products, columns
        Catalogue whose products are found by id and by the page, and its own column names; states are taken from an
        index of `zhichun index`.
    on_bad_rows
        Whether products that cannot be used stop the server (``fail``) or are left out (``drop``).
    locale
        Of requests that name none.
    engine
        The engine, as for `Scorer.load`.
    name
        Of the model, for clients; the folder's if not given.
    host, port
        Where the server listens; port 0 is any that is free.
    allowed_hosts
        Further names under which a server without keys may be called.
    workers
        Processes.
    keys
        That open it.
    limits
        Of requests, queue and cache.
    log_texts
        Whether to log texts of requests.
    """

    run: Path
    products: Path | None = None
    columns: dict[str, str] = field(default_factory=dict)
    on_bad_rows: OnBadRows = "fail"
    locale: str = "us"
    engine: str = "auto"
    name: str | None = None
    host: str = "127.0.0.1"
    port: int = 8080
    allowed_hosts: tuple[str, ...] = ()
    workers: int = 1
    keys: Keys = OPEN
    limits: Limits = field(default_factory=Limits)
    log_texts: bool = False

    def __post_init__(self) -> None:
        require_range(self, "port", least=0, most=65535)
        require_range(self, "workers", least=1)

    def check(self) -> None:
        """Refuse invalid or unsafe settings before loading.

        Raises
        ------
        UserError
            When there is no such model, or the server would be open to others without a key.
        """
        if not is_loopback(self.host) and not self.keys:
            raise UserError(
                f"a server on {self.host} is open to others and needs API keys.",
                remedy=f"Give --api-keys FILE or {VARIABLE}, or leave --host out to serve this machine alone.",
            )
        _ = self.fingerprint  # which is refused where there is no model

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the model's files.

        Raises
        ------
        UserError
            When there is no such model.
        """
        return fingerprint_of(self.run)

    @property
    def hosts(self) -> frozenset[str] | None:
        """Names under which the server may be called; any, where keys protect it."""
        if self.keys:
            return None
        host = f"[{self.host}]" if ":" in self.host else self.host
        return LOOPBACK | {host.lower()} | {name.lower() for name in self.allowed_hosts}

    def service(self) -> Service:
        """Make the service, not loaded yet."""
        name = self.name or self.run.resolve().name
        return Service(name, self.locale, self.limits, self.fingerprint)

    def load(self) -> tuple[PairScorer, Catalogue | None]:
        """Load the model and the catalogue."""
        scorer = load_scorer(self.run, engine=self.engine, products=self.products).remembering()
        scorer.score("warm", ["up"], self.locale)  # what is made when it is first needed is made now
        if self.products is None:
            return scorer, None
        catalogue = Catalogue.open(
            self.products, columns=self.columns or None, locale=self.locale, on_bad_rows=self.on_bad_rows
        )
        return scorer, catalogue


def is_loopback(host: str) -> bool:
    """Return whether a server on a host is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
