"""The clients that benchmarks/store.py compares: each writes and reads a set of objects, in memory, checked by size."""

from __future__ import annotations

import io
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

EXPECTED = "ours, digest expected"
OBJECTS_AT_ONCE = 4
"""Threads over a set of objects, for the clients that have no transfer manager of their own."""


@dataclass(frozen=True)
class Place:
    """A bucket on a server."""

    endpoint: str
    bucket: str
    access_key: str
    secret_key: str

    @property
    def host(self) -> str:
        return self.endpoint.partition("://")[2]


class Client(ABC):
    """Writes all objects, or reads all into memory, as its maker means it to be used at its best.

    Attributes:
        writer: Name below which the objects lie that it writes and reads.
    """

    writer: str

    def __init__(self, place: Place) -> None:
        self.place = place

    @abstractmethod
    def warm_up(self) -> None:
        """Connect, so that the first transfer is like the others."""

    @abstractmethod
    def write(self, objects: Mapping[str, memoryview]) -> None: ...

    @abstractmethod
    def read(self, sizes: Mapping[str, int]) -> list[int]:
        """Return the bytes read of each object."""


class Rooms:
    """Memory of each thread, used for one object after the other, by the clients that read into their caller's."""

    def __init__(self, make: Callable[[int], Any]) -> None:
        self._make, self._own = make, threading.local()

    def __call__(self, size: int) -> memoryview:
        if len(getattr(self._own, "memory", b"")) < size:
            self._own.memory = self._make(size)
        return memoryview(self._own.memory)[:size]


def _over(work: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    if len(items) == 1:
        return [work(items[0])]
    with ThreadPoolExecutor(OBJECTS_AT_ONCE) as pool:
        return list(pool.map(work, items))


class Ours(Client):
    """`opt_store`: digest and checksum kept with each object; each read is held against the checksum."""

    writer = "ours"

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        from opt_store import S3Credentials, S3Settings, new_buffer, open_store

        self.new_buffer = new_buffer
        self.store = open_store(
            f"s3://{place.bucket}",
            s3=S3Settings(endpoint=place.endpoint),
            credentials=S3Credentials(access_key=place.access_key, secret_key=place.secret_key),
        )

    def warm_up(self) -> None:
        self.store.check_access()

    def write(self, objects: Mapping[str, memoryview]) -> None:
        _over(lambda item: self.store.upload(item[0], [item[1]]), list(objects.items()))

    def read(self, sizes: Mapping[str, int]) -> list[int]:
        room = Rooms(self.new_buffer)
        return _over(lambda key: len(self.store.load(key, self.expected(key), room)), list(sizes))

    def expected(self, key: str) -> str | None:
        """The digest that the content must have, as a reader knows it from a manifest."""
        return None


class Expected(Ours):
    """`opt_store` with the digest of a manifest: each read is held against the SHA-256, which guards from forgery."""

    def expected(self, key: str) -> str | None:
        return self.store.stat(key).digest


class Boto3(Client):
    """boto3's transfer manager as it comes: parts of 8 MiB, 10 threads, default checksums."""

    writer = "boto3"

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        import boto3
        from boto3.s3.transfer import TransferConfig, create_transfer_manager

        self.client = boto3.client(
            "s3",
            endpoint_url=place.endpoint,
            region_name="us-east-1",
            aws_access_key_id=place.access_key,
            aws_secret_access_key=place.secret_key,
        )
        self.manager = create_transfer_manager(self.client, TransferConfig())

    def warm_up(self) -> None:
        self.client.list_objects_v2(Bucket=self.place.bucket, MaxKeys=1)

    def write(self, objects: Mapping[str, memoryview]) -> None:
        futures = [self.manager.upload(io.BytesIO(data), self.place.bucket, key) for key, data in objects.items()]
        for future in futures:
            future.result()

    def read(self, sizes: Mapping[str, int]) -> list[int]:
        targets = {key: io.BytesIO() for key in sizes}
        futures = [self.manager.download(self.place.bucket, key, target) for key, target in targets.items()]
        for future in futures:
            future.result()
        return [target.getbuffer().nbytes for target in targets.values()]


class S3TorchConnector(Client):
    """s3torchconnector's client: a stream for each object, on Amazon's C runtime."""

    writer = "s3torchconnector"

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        import os

        os.environ |= {"AWS_ACCESS_KEY_ID": place.access_key, "AWS_SECRET_ACCESS_KEY": place.secret_key}
        from s3torchconnector._s3client import S3Client, S3ClientConfig

        self.client = S3Client(
            "us-east-1", endpoint=place.endpoint, s3client_config=S3ClientConfig(force_path_style=True)
        )

    def warm_up(self) -> None:
        list(self.client.list_objects(self.place.bucket, "none-such", max_keys=1))

    def write(self, objects: Mapping[str, memoryview]) -> None:
        def one(item: tuple[str, memoryview]) -> None:
            writer = self.client.put_object(self.place.bucket, item[0])
            writer.write(bytes(item[1]))
            writer.close()

        _over(one, list(objects.items()))

    def read(self, sizes: Mapping[str, int]) -> list[int]:
        room = Rooms(bytearray)

        def one(item: tuple[str, int]) -> int:
            count: int = self.client.get_object(self.place.bucket, item[0]).readinto(room(item[1]))
            return count

        return _over(one, list(sizes.items()))


class PlainMinio(Client):
    """The `minio` client's public calls."""

    writer = "minio"

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        from minio import Minio

        self.client = Minio(
            endpoint=place.host,
            access_key=place.access_key,
            secret_key=place.secret_key,
            secure=False,
            region="us-east-1",
        )

    def warm_up(self) -> None:
        self.client.bucket_exists(bucket_name=self.place.bucket)

    def write(self, objects: Mapping[str, memoryview]) -> None:
        def one(item: tuple[str, memoryview]) -> None:
            self.client.put_object(
                bucket_name=self.place.bucket, object_name=item[0], data=io.BytesIO(item[1]), length=item[1].nbytes
            )

        _over(one, list(objects.items()))

    def read(self, sizes: Mapping[str, int]) -> list[int]:
        def one(key: str) -> int:
            response = self.client.get_object(bucket_name=self.place.bucket, object_name=key)
            try:
                return len(response.read())
            finally:
                response.close()
                response.release_conn()

        return _over(one, list(sizes))


CLIENTS: dict[str, type[Client]] = {
    "ours": Ours,
    EXPECTED: Expected,
    "boto3 transfer manager": Boto3,
    "s3torchconnector": S3TorchConnector,
    "minio client": PlainMinio,
}
