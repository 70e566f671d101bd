"""One model behind an OpenAI-compatible chat API: asks for a judgement, and reads the answer strictly.

The official SDK sends, waits and tries again; what comes back is read here, since servers differ in what they leave
out. Keys come from the environment, and are in no message of ours.

The model is told a guideline and the form of the answer, and shown a pair, as data in tags.
"""

import asyncio
import hashlib
import json
import math
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import openai

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.schema import LABELS
from zhichun.core.settings import require_range
from zhichun.text.clean import clean_text
from zhichun.text.fold import grade_labels, label_of

# The guideline's language, by locale; English for all others.
LANGUAGES: Final = {"jp": "ja", **dict.fromkeys(("es", "mx", "ar", "cl", "co", "pe"), "es")}
PACKAGED: Final = ("en", "es", "ja")
CUT: Final = "…"
# A token has about four letters of these languages, and one sign of Japanese. A request has some besides the texts.
_LETTERS_OF_A_TOKEN: Final = 4
_TOKENS_BESIDE: Final = 12

Message = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """Turns pairs into messages.

    Attributes
    ----------
    guideline
        A file with a guideline in place of the packaged one, or ``en``, ``es`` or ``ja``, for pairs of all locales.
    letter
        Whether the label alone is asked for, by its letter; otherwise also why.
    longest
        Characters of each text that are shown at most.
    """

    guideline: str | None = None
    letter: bool = False
    longest: int = 2000

    def __post_init__(self) -> None:
        require_range(self, "longest", least=1)

    def messages(self, query: str, texts: Mapping[str, str | None], locale: str) -> list[Message]:
        """Ask for the label of a product, given by column name, for a query; nothing where it has no text."""
        words = _words(self.guideline if self.guideline in PACKAGED else LANGUAGES.get(locale, PACKAGED[0]))
        told = [self._own or words["guideline"], words["data"], words["letter" if self.letter else "reason"]]
        fields = {field: self._shown(texts.get(column) or "") for field, column in schema.COLUMN_OF.items()}
        product = "".join(f"<{field}>{text}</{field}>\n" for field, text in fields.items() if text)
        if not product:
            return []
        shown = f"<query>{self._shown(query)}</query>\n<product>\n{product}</product>\n{words['closing']}"
        return [
            {"role": "system", "content": "\n\n".join(part.strip() for part in told)},
            {"role": "user", "content": shown},
        ]

    @cached_property
    def _own(self) -> str | None:
        return None if self.guideline is None or self.guideline in PACKAGED else _read(Path(self.guideline))

    def _shown(self, text: str) -> str:
        """Clean and cut a text, and take from it what could end the tags that it stands in."""
        text = clean_text(text)
        text = text if len(text) <= self.longest else text[: self.longest] + CUT
        return text.replace("&", "&amp;").replace("<", "&lt;")


def about_tokens(messages: Sequence[Message]) -> int:
    """Estimate the tokens of messages; each model counts them differently."""
    texts = [message["content"] for message in messages]
    plain = sum(len(text.encode("ascii", "ignore")) for text in texts)
    return plain // _LETTERS_OF_A_TOKEN + sum(map(len, texts)) - plain + _TOKENS_BESIDE


@cache
def _words(language: str) -> dict[str, str]:
    return tomllib.loads((files("zhichun.judgements") / "prompts" / f"{language}.toml").read_text("utf-8"))


def _read(path: Path) -> str:
    try:
        text = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        remedy = f"Give a text file in UTF-8, or one of {', '.join(PACKAGED)}."
        raise UserError(f"the guideline cannot be read ({error}).", file=path, remedy=remedy) from error
    if not text:
        raise UserError("the guideline is empty.", file=path, remedy="Write down what the labels mean.")
    return text


# Why an answer cannot be used.
REFUSED: Final = "the model refused"
CUT_OFF: Final = "the answer is cut off; raise max_tokens with --request"
NO_LABEL: Final = "the answer has no label"
NOT_READ: Final = "the reply is no chat completion"
NO_REPLY: Final = "no reply in time"
_SHOWN: Final = 200
_LONGEST: Final = 20_000
# What the SDK waits at most where a server says when to come again.
_MOST_TOLD: Final = 120
_LABELS: Final = grade_labels()
# What tokenizers and models put around a letter.
_AROUND: Final = " \t\r\n▁Ġ\"'`*.:()"
_SCHEMA: Final = {
    "type": "object",
    # In this order, so that a model that thinks as it writes does so before it decides.
    "properties": {"reason": {"type": "string"}, "label": {"type": "string", "enum": list(LABELS)}},
    "required": ["reason", "label"],
    "additionalProperties": False,
}
_JSON_FORMAT: Final = {
    "max_tokens": 300,
    "response_format": {"type": "json_schema", "json_schema": {"name": "judgement", "strict": True, "schema": _SCHEMA}},
}
_LETTER_FORMAT: Final = {"max_tokens": 5, "logprobs": True, "top_logprobs": 20}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model said of a pair, or why nothing of it can be used.

    Attributes
    ----------
    label, reason
        Its judgement, and why.
    probabilities
        Of the four labels, where they were asked for and the server gave them.
    failure
        Why there is no judgement.
    is_final
        Whether asking again would give the same, as far as one can know; it is then kept.
    tokens_in, tokens_out
        As the server counted them.
    """

    label: str | None = None
    reason: str = ""
    probabilities: Sequence[float] | None = None
    failure: str = ""
    is_final: bool = True
    tokens_in: int = 0
    tokens_out: int = 0


class Chat:
    """A model that judges.

    Parameters
    ----------
    url
        Base of the API, such as ``http://localhost:8000/v1``.
    model
        The model's name there.
    letter
        Whether to ask for a letter with its log probabilities; otherwise for a JSON object.
    request
        Further fields of each request; None leaves one out.
    key_variable
        Environment variable that holds the key; without it, none is sent that means anything.
    timeout
        Seconds that one try may take.
    retries
        Tries after the first, with growing pauses or those that the server asks for.

    Raises
    ------
    UserError
        For a URL that is none, or that holds a password or query, and for a key that cannot be sent.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        letter: bool = False,
        request: Mapping[str, Any] | None = None,
        key_variable: str = "OPENAI_API_KEY",
        timeout: float = 60,
        retries: int = 5,
    ) -> None:
        self.url, self.model, self._timeout, self._retries = _checked(url), model, timeout, retries
        self._letter, self._variable, self._key = letter, key_variable, os.environ.get(key_variable, "").strip()
        if not re.fullmatch("[!-~]*", self._key):
            problem = f"the environment variable {key_variable} holds characters that no key has."
            raise UserError(problem, remedy="Set it to the key alone.")
        fields = {"temperature": 0, **(_LETTER_FORMAT if letter else _JSON_FORMAT), **(request or {})}
        self.request = {name: value for name, value in fields.items() if value is not None}
        self._client = openai.AsyncOpenAI(base_url=url, api_key=self._key or "none", timeout=timeout)

    @property
    def most_tokens(self) -> int | None:
        """Tokens of an answer at most, where the request says so."""
        return self.request.get("max_tokens") or self.request.get("max_completion_tokens")

    def key(self, messages: Sequence[Message]) -> bytes:
        """Hash all that decides an answer: the model, the prompt, the query and the product."""
        decisive = json.dumps([self.model, messages, self.request], sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(decisive.encode()).digest()

    async def ask(self, messages: Sequence[Message], *, retries: int | None = None) -> Answer:
        """Ask once, with retries.

        Raises
        ------
        UserError
            When no pair could be judged so: the server cannot be reached, or refuses the key or the model.
        """
        retries = self._retries if retries is None else retries
        client = self._client.with_options(max_retries=retries)
        try:
            # The timeout of the SDK is that of one read.
            async with asyncio.timeout((retries + 1) * (self._timeout + _MOST_TOLD)):
                raw = await client.chat.completions.with_raw_response.create(
                    model=self.model, messages=messages, extra_body=self.request
                )
                return read_answer(raw.http_response.text, letter=self._letter)
        except (openai.APITimeoutError, TimeoutError):
            return Answer(failure=NO_REPLY, is_final=False)
        except openai.APIConnectionError as error:
            problem = f"{self.url} cannot be reached ({self._hidden(str(error.__cause__ or error))})."
            remedy = "Check the URL and that the server runs. What was answered is kept: the same command goes on."
            raise UserError(problem, remedy=remedy) from error
        except openai.APIStatusError as error:
            # Hidden before it is cut, so that no part of the key is left.
            said = f"status {error.status_code}: {_short(self._hidden(_said(error)))}"
            if error.status_code == 401:
                remedy = f"Set the environment variable {self._variable} to your key."
                raise UserError(f"{self.url} refuses the key ({said}).", remedy=remedy) from None
            if error.status_code == 404:
                remedy = "Check --model, and that --url is the base of the API; it mostly ends with /v1."
                problem = f"{self.url} has no model {self.model!r}, or is no chat API ({said})."
                raise UserError(problem, remedy=remedy) from None
            # Others are of the server or the account, as with 402 (no credit); 403 may be of a pair alone (moderation).
            return Answer(failure=said, is_final=error.status_code in (400, 413, 422))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _hidden(self, text: str) -> str:
        """Take the key out of what a server says."""
        return text.replace(self._key, "…") if self._key else text


def read_answer(body: str, *, letter: bool) -> Answer:
    """Read the body of a reply."""
    try:
        reply = json.loads(body)
        choice = reply["choices"][0]
        message, ended = choice["message"], choice.get("finish_reason")
        said, refused = message.get("content") or "", message.get("refusal")
        # A reasoning model's thoughts: some templates open them in the prompt, and some answers end in them.
        said = said.rpartition("</think>")[2].partition("<think>")[0][:_LONGEST]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return Answer(failure=f"{NOT_READ}: {_short(body)!r}", is_final=False)
    usage = reply["usage"] if isinstance(reply.get("usage"), dict) else {}
    answer = Answer(tokens_in=_whole(usage.get("prompt_tokens")), tokens_out=_whole(usage.get("completion_tokens")))
    if refused or ended == "content_filter":
        return replace(answer, failure=f"{REFUSED}: {_short(clean_text(str(refused or ended)))}")
    label, reason = (label_of(said.strip(_AROUND), _LABELS), "") if letter else _judgement(said)
    if not label:
        return replace(answer, failure=CUT_OFF if ended == "length" else f"{NO_LABEL}: {_short(said)!r}")
    probabilities = _probabilities(choice) if letter else None
    if probabilities is not None:
        label = max(LABELS, key=lambda each: (probabilities[LABELS.index(each)], each == label))
    return replace(answer, label=label, reason=reason, probabilities=probabilities)


def _judgement(said: str) -> tuple[str | None, str]:
    """Find the object with a label, whatever a model puts around it; a label alone will do."""
    decoder = json.JSONDecoder()
    for brace in re.finditer(r"\{", said):
        with suppress(ValueError, RecursionError):
            found, _ = decoder.raw_decode(said, brace.start())
            if isinstance(found, dict) and isinstance(found.get("label"), str):
                return label_of(found["label"], _LABELS), _short(clean_text(str(found.get("reason") or "")))
    return label_of(said.strip(_AROUND), _LABELS), ""


def _probabilities(choice: Mapping[str, Any]) -> list[float] | None:
    """Share out what the last token that is a label, and those that could have stood there, have of the four."""
    try:
        for token in reversed(choice["logprobs"]["content"]):  # thoughts may name labels before
            if not label_of(token["token"].strip(_AROUND), _LABELS):
                continue
            weights = dict.fromkeys(LABELS, 0.0)
            # The token itself is not always among those that could have stood there.
            listed = {other["token"]: other["logprob"] for other in (token, *(token.get("top_logprobs") or ()))}
            for text, logprob in listed.items():
                if label := label_of(text.strip(_AROUND), _LABELS):
                    weights[label] += math.exp(min(0.0, logprob))
            total = sum(weights.values())
            return [weight / total for weight in weights.values()] if total > 0 else None
    except (LookupError, TypeError, AttributeError):
        pass
    return None


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_one = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_one = False
    if not is_one:
        problem = f"{url.rpartition('@')[2]!r} is no URL of an API."  # what stands before may be a password
        raise UserError(problem, remedy="Give its base, such as http://localhost:8000/v1.")
    if parts.username or parts.password or parts.query:
        problem = f"the URL of {parts.hostname} holds a password or a query."
        raise UserError(problem, remedy="Give the URL alone; a key is read from the environment (--key-variable).")
    return url.rstrip("/")


def _said(error: openai.APIStatusError) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    return clean_text(str(body.get("message") or error.response.text or error.message))


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _whole(value: Any) -> int:
    return value if type(value) is int and value > 0 else 0
