"""附件: files that are attached to a case from its page. They are read from the form as they come, and kept once."""

import hashlib
from collections.abc import AsyncIterator
from typing import Final

from starlette.datastructures import UploadFile
from starlette.responses import Response
from starlette.routing import Route

from kuaixiang.domain.errors import FieldMissing
from kuaixiang.domain.labels import Both
from kuaixiang.web.console import Console, Visit
from kuaixiang.wire.v1 import case_pb2
from node.desk.asking import Services, header, inside

PIECE_BYTES: Final = 256 * 1024


def routes(console: Console, services: Services) -> list[Route]:
    """Where a file is sent."""

    async def attach(visit: Visit) -> Response:
        case_id = visit.request.path_params["case_id"]
        form = await visit.form()
        file = form.get("file")
        if not isinstance(file, UploadFile) or not file.filename:
            raise FieldMissing("file", Both("it is what is attached", "请先选择文件"))
        digest = hashlib.sha256()
        size = 0
        while piece := await file.read(PIECE_BYTES):
            digest.update(piece)
            size += len(piece)
        await file.seek(0)

        async def messages() -> AsyncIterator[case_pb2.AttachFileRequest]:
            yield case_pb2.AttachFileRequest(
                header=header(visit.person, case_id=case_id, key=str(form.get("request_key", ""))),
                digest=digest.hexdigest(),
                name=str(file.filename),
                media_type=file.content_type or "application/octet-stream",
                size_bytes=size,
            )
            while piece := await file.read(PIECE_BYTES):
                yield case_pb2.AttachFileRequest(data=piece)

        await services.cases.AttachFile(messages(), inside(visit.person))
        return visit.to(f"/cases/{case_id}")

    return [console.route("/cases/{case_id}/files", attach, "POST")]
