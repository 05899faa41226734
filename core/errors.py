"""Every error the product raises on purpose; the docstring is the default message.

DeepDefendError
├── InvalidRequest (400)
│   ├── IdempotencyMismatch (422)
│   ├── InvalidCursor
│   ├── InvalidIdempotencyKey
│   ├── InvalidOption (422)
│   └── MalformedUpload
├── Unauthorized (401)
├── Forbidden (403)
├── NotFound (404)
│   └── PictureErased (410)
├── Conflict (409)
│   ├── IdempotencyInProgress
│   └── CompletionInProgress
├── ChecksumMismatch (422)  what arrived is not what was announced
├── PayloadTooLarge (413)
├── UnsupportedMedia (415)
├── TooManyRequests (429)
├── Unavailable (503)
├── UnsafeUrl (422)        a URL that must not be called; never says what was found behind it
├── Unreachable (502)      a safe URL whose server did not answer as HTTP; its code says how
├── Unusable (502)         a server answered, but not with a file that can be taken
├── Fenced                 a worker lost its lease; its results are discarded
├── MediaError             the file cannot be analysed; carries a stable code
├── DetectorUnavailable    no usable weights; carries the mending command
├── DetectorFailed         the detector broke, or answered no probability
└── StorageError           S3 did not do what was asked
    └── StorageFull        S3 has no room left
"""

from __future__ import annotations

from typing import Any, ClassVar


class DeepDefendError(Exception):
    """Something went wrong inside DeepDefend."""

    status_code: ClassVar[int] = 500
    code: str = "internal_error"

    def __init__(self, detail: str | None = None, *, code: str | None = None, **extra: Any) -> None:
        self.detail = detail or (type(self).__doc__ or "").strip()
        self.code = code or type(self).code
        self.extra = extra
        super().__init__(self.detail)

    def problem(self) -> dict[str, Any]:
        """The RFC 9457 members of this error, without `instance`."""
        return {
            "type": f"https://deepdefend.dev/problems/{self.code}",
            "title": self.code.replace("_", " ").capitalize(),
            "status": self.status_code,
            "detail": self.detail,
            "code": self.code,
            **self.extra,
        }


class InvalidRequest(DeepDefendError):
    """The request could not be understood."""

    status_code = 400
    code = "invalid_request"


class InvalidCursor(InvalidRequest):
    """The cursor is damaged, or belongs to another query."""

    code = "invalid_cursor"


class InvalidOption(InvalidRequest):
    """An option is unknown or out of its bounds."""

    status_code = 422
    code = "invalid_option"


class InvalidIdempotencyKey(InvalidRequest):
    """`Idempotency-Key` is one quoted string of 1 to 255 visible ASCII characters."""

    code = "invalid_idempotency_key"


class IdempotencyMismatch(InvalidRequest):
    """This Idempotency-Key was used for another request; a new request needs a new key."""

    status_code = 422
    code = "idempotency_mismatch"


class MalformedUpload(InvalidRequest):
    """The multipart body is broken."""

    code = "malformed_upload"


class Unauthorized(DeepDefendError):
    """A valid API key is needed: `Authorization: Bearer dd_…`."""

    status_code = 401
    code = "unauthorized"


class Forbidden(DeepDefendError):
    """This API key does not have the scope that the call needs."""

    status_code = 403
    code = "forbidden"


class NotFound(DeepDefendError):
    """There is no such thing, or it is not yours."""

    status_code = 404
    code = "not_found"


class PictureErased(NotFound):
    """This picture has been erased, as its retention demanded; the report stays."""

    status_code = 410
    code = "picture_erased"


class Conflict(DeepDefendError):
    """The resource is not in a state that allows this."""

    status_code = 409
    code = "conflict"


class IdempotencyInProgress(Conflict):
    """The first request with this Idempotency-Key is still running; send it again later."""

    code = "idempotency_in_progress"

    def __init__(self, *, retry_after: int = 1) -> None:
        super().__init__(retry_after=retry_after)  # seconds


class CompletionInProgress(Conflict):
    """This upload is being completed; ask again later."""

    code = "completion_in_progress"

    def __init__(self, *, retry_after: int = 1) -> None:
        super().__init__(retry_after=retry_after)  # seconds


class ChecksumMismatch(DeepDefendError):
    """The bytes that arrived are not those that were announced; they have been dropped."""

    status_code = 422
    code = "checksum_mismatch"


class PayloadTooLarge(DeepDefendError):
    """The file is larger than this server accepts."""

    status_code = 413
    code = "file_too_large"


class UnsupportedMedia(DeepDefendError):
    """The request body has a type that this call does not take."""

    status_code = 415
    code = "unsupported_media_type"


class TooManyRequests(DeepDefendError):
    """Slower, please: a quota of this API key is used up."""

    status_code = 429
    code = "quota_exceeded"


class UnsafeUrl(DeepDefendError):
    """This URL must not be called from here."""

    status_code = 422
    code = "unsafe_url"


class Unreachable(DeepDefendError):
    """The server of this URL could not be reached."""

    # connect_failed, timed_out, tls_failed, connection_lost, bad_answer or unavailable
    status_code = 502
    code = "connect_failed"


class Unusable(DeepDefendError):
    """The server of this URL did not answer with a file that can be taken."""

    # refused, too_large or wrong_type
    status_code = 502
    code = "refused"


class Unavailable(DeepDefendError):
    """A part that this call needs does not answer; try again later."""

    status_code = 503
    code = "unavailable"


class Fenced(DeepDefendError):
    """The lease on the step is lost; another process owns it now."""

    code = "fenced"


class MediaError(DeepDefendError):
    """The file cannot be analysed."""

    status_code = 422
    code = "undecodable_media"


class DetectorUnavailable(DeepDefendError):
    """No usable detector weights for this modality."""

    code = "no_detector_weights"


class DetectorFailed(DeepDefendError):
    """The detector broke, or answered something that is not a probability."""

    code = "detector_failed"


class StorageError(DeepDefendError):
    """The object storage did not do what was asked."""

    status_code = 503
    code = "storage_unavailable"


class StorageFull(StorageError):
    """The object storage has no room left; try again later."""

    code = "storage_full"
