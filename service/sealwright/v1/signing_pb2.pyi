import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SignJwtRequest(_message.Message):
    __slots__ = ("issuer", "claims_json", "subject", "audience", "lifetime", "not_before", "algorithm", "token_type")
    ISSUER_FIELD_NUMBER: _ClassVar[int]
    CLAIMS_JSON_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    LIFETIME_FIELD_NUMBER: _ClassVar[int]
    NOT_BEFORE_FIELD_NUMBER: _ClassVar[int]
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    TOKEN_TYPE_FIELD_NUMBER: _ClassVar[int]
    issuer: str
    claims_json: str
    subject: str
    audience: _containers.RepeatedScalarFieldContainer[str]
    lifetime: _duration_pb2.Duration
    not_before: _timestamp_pb2.Timestamp
    algorithm: str
    token_type: str
    def __init__(self, issuer: _Optional[str] = ..., claims_json: _Optional[str] = ..., subject: _Optional[str] = ..., audience: _Optional[_Iterable[str]] = ..., lifetime: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., not_before: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., algorithm: _Optional[str] = ..., token_type: _Optional[str] = ...) -> None: ...

class SignJwtResponse(_message.Message):
    __slots__ = ("token", "kid", "algorithm", "issue_time", "expire_time", "jwt_id")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    KID_FIELD_NUMBER: _ClassVar[int]
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    ISSUE_TIME_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    JWT_ID_FIELD_NUMBER: _ClassVar[int]
    token: str
    kid: str
    algorithm: str
    issue_time: _timestamp_pb2.Timestamp
    expire_time: _timestamp_pb2.Timestamp
    jwt_id: str
    def __init__(self, token: _Optional[str] = ..., kid: _Optional[str] = ..., algorithm: _Optional[str] = ..., issue_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., jwt_id: _Optional[str] = ...) -> None: ...

class BatchSignJwtRequest(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[SignJwtRequest]
    def __init__(self, requests: _Optional[_Iterable[_Union[SignJwtRequest, _Mapping]]] = ...) -> None: ...

class BatchSignJwtResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[BatchSignJwtResult]
    def __init__(self, results: _Optional[_Iterable[_Union[BatchSignJwtResult, _Mapping]]] = ...) -> None: ...

class BatchSignJwtResult(_message.Message):
    __slots__ = ("response", "error")
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    response: SignJwtResponse
    error: _status_pb2.Status
    def __init__(self, response: _Optional[_Union[SignJwtResponse, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class VerifyJwtRequest(_message.Message):
    __slots__ = ("token", "issuer", "audience", "skip_audience_check")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    ISSUER_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    SKIP_AUDIENCE_CHECK_FIELD_NUMBER: _ClassVar[int]
    token: str
    issuer: str
    audience: str
    skip_audience_check: bool
    def __init__(self, token: _Optional[str] = ..., issuer: _Optional[str] = ..., audience: _Optional[str] = ..., skip_audience_check: _Optional[bool] = ...) -> None: ...

class VerifyJwtResponse(_message.Message):
    __slots__ = ("claims_json", "kid", "expire_time")
    CLAIMS_JSON_FIELD_NUMBER: _ClassVar[int]
    KID_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    claims_json: str
    kid: str
    expire_time: _timestamp_pb2.Timestamp
    def __init__(self, claims_json: _Optional[str] = ..., kid: _Optional[str] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
