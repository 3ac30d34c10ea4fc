"""The official OpenAI package in Python: asks on stdin, what came of them on stdout, a JSON line each.

In:  {"id", "surface", "door": {"url", "apiKey"}, "ask": {...}}   as in client.ts
Out: {"id", "said": {...}}                                       as in client.ts
"""

import io
import json
import sys
import threading

import openai

ENOUGH = 3
TOO_MANY = 8192


class Left(Exception):
    """Enough was read."""


class Hearing:
    def __init__(self, ask):
        self.ask = ask
        self.calls = {}
        self.said = {
            "text": "",
            "pieces": 0,
            "calls": [],
            "usage": None,
            "model": None,
            "requestId": None,
            "instance": None,
            "error": None,
        }

    def piece(self, text):
        if not text:
            return
        self.said["text"] += text
        self.said["pieces"] += 1
        if self.ask["stream"] and self.ask.get("leaves") and self.said["pieces"] >= ENOUGH:
            raise Left()

    def call(self, key, name="", args=""):
        known = self.calls.setdefault(key, {"name": "", "args": ""})
        known["name"] += name or ""
        known["args"] += args or ""

    def headers(self, headers):
        self.said["requestId"] = headers.get("x-request-id")
        self.said["instance"] = headers.get("x-penstock-instance")

    def usage(self, prompt, completion):
        self.said["usage"] = {"prompt": prompt, "completion": completion}


def stream_of(hearing, raw):
    """The events of a raw response; the connection is closed however it ends."""
    hearing.headers(raw.headers)
    stream = raw.parse()
    try:
        yield from stream
    finally:
        stream.close()


def chat(client, ask, hearing, tools, schema):
    request = {
        "model": ask["model"],
        "messages": [{"role": "user", "content": ask["text"]}],
        "max_tokens": tokens_of(ask),
    }
    if ask.get("wants") == "tools":
        request["tools"] = [{"type": "function", "function": tool} for tool in tools]
    if ask.get("wants") == "schema":
        form = {"name": "book", "strict": True, "schema": schema}
        request["response_format"] = {"type": "json_schema", "json_schema": form}
    api = client.chat.completions.with_raw_response
    if not ask["stream"]:
        raw = api.create(**request)
        hearing.headers(raw.headers)
        answer = raw.parse()
        hearing.said["model"] = answer.model
        hearing.usage(answer.usage.prompt_tokens, answer.usage.completion_tokens)
        message = answer.choices[0].message
        hearing.piece(message.content)
        for at, call in enumerate(message.tool_calls or []):
            hearing.call(at, call.function.name, call.function.arguments)
        return
    for chunk in stream_of(hearing, api.create(**request, stream=True, **usage_of(ask))):
        told(hearing, chunk)
        if not chunk.choices:
            continue
        delta = chunk.choices[0].delta
        for call in delta.tool_calls or []:
            hearing.call(call.index, call.function.name, call.function.arguments)
        hearing.piece(delta.content)


def completions(client, ask, hearing, _tools, _schema):
    request = {"model": ask["model"], "prompt": ask["text"], "max_tokens": tokens_of(ask)}
    api = client.completions.with_raw_response
    if not ask["stream"]:
        raw = api.create(**request)
        hearing.headers(raw.headers)
        answer = raw.parse()
        hearing.said["model"] = answer.model
        hearing.usage(answer.usage.prompt_tokens, answer.usage.completion_tokens)
        hearing.piece(answer.choices[0].text)
        return
    for chunk in stream_of(hearing, api.create(**request, stream=True, **usage_of(ask))):
        told(hearing, chunk)
        if chunk.choices:
            hearing.piece(chunk.choices[0].text)


def responses(client, ask, hearing, tools, schema):
    request = {"model": ask["model"], "input": ask["text"], "max_output_tokens": tokens_of(ask)}
    if ask.get("wants") == "tools":
        request["tools"] = [{"type": "function", "strict": True, **tool} for tool in tools]
    if ask.get("wants") == "schema":
        form = {"type": "json_schema", "name": "book", "strict": True, "schema": schema}
        request["text"] = {"format": form}
    api = client.responses.with_raw_response

    def whole(answer):
        hearing.said["model"] = answer.model
        hearing.usage(answer.usage.input_tokens, answer.usage.output_tokens)

    if not ask["stream"]:
        raw = api.create(**request)
        hearing.headers(raw.headers)
        answer = raw.parse()
        whole(answer)
        hearing.piece(answer.output_text)
        for item in answer.output:
            if item.type == "function_call":
                hearing.call(item.call_id, item.name, item.arguments)
        return
    for event in stream_of(hearing, api.create(**request, stream=True)):
        if event.type == "response.output_text.delta":
            hearing.piece(event.delta)
        elif event.type == "response.output_item.added":
            if event.item.type == "function_call":
                hearing.call(event.output_index, event.item.name)
        elif event.type == "response.function_call_arguments.delta":
            hearing.call(event.output_index, "", event.delta)
        elif event.type in ("response.completed", "response.incomplete"):
            whole(event.response)
        elif event.type in ("response.failed", "error"):
            raise AssertionError(f"an event that is no exception: {event}")


def embeddings(client, ask, hearing, _tools, _schema):
    extra = {"extra_body": {"seed": "many"}} if ask.get("wants") == "broken" else {}
    raw = client.embeddings.with_raw_response.create(model=ask["model"], input=ask["text"], **extra)
    hearing.headers(raw.headers)
    answer = raw.parse()
    hearing.said["model"] = answer.model
    hearing.usage(answer.usage.prompt_tokens, 0)
    hearing.piece(json.dumps([f"{x:.5f}" for x in answer.data[0].embedding], separators=(",", ":")))


def transcriptions(client, ask, hearing, _tools, _schema):
    speech = io.BytesIO(bytes(at * 37 % 251 for at in range(ask["audioBytes"])))
    request = {
        "file": ("speech.wav", speech, "audio/wav"),
        "model": ask["model"],
        "prompt": ask["text"],
        "response_format": "srt" if ask.get("wants") == "broken" else "json",
        "extra_body": {"max_completion_tokens": ask["tokens"]},
    }
    api = client.audio.transcriptions.with_raw_response
    if not ask["stream"]:
        raw = api.create(**request)
        hearing.headers(raw.headers)
        hearing.piece(raw.parse().text)
        return
    if ask.get("usage"):
        request["extra_body"]["stream_include_usage"] = True
    for chunk in stream_of(hearing, api.create(**request, stream=True)):
        # vLLM streams chunks of its own: the package hands them out as they are.
        fields = chunk.to_dict()
        hearing.said["model"] = fields["model"]
        usage = fields.get("usage")
        if usage:
            hearing.usage(usage["prompt_tokens"], usage["completion_tokens"])
        if fields["choices"]:
            hearing.piece(fields["choices"][0]["delta"].get("content"))


def told(hearing, chunk):
    hearing.said["model"] = chunk.model
    if chunk.usage:
        hearing.usage(chunk.usage.prompt_tokens, chunk.usage.completion_tokens)


def tokens_of(ask):
    """More than the context holds, where the request is to be refused."""
    return TOO_MANY if ask.get("wants") == "broken" else ask["tokens"]


def usage_of(ask):
    return {"stream_options": {"include_usage": True}} if ask.get("usage") else {}


def say(surface, door, ask, tools, schema):
    hearing = Hearing(ask)
    # The only way out of an answer in one piece is to have no more patience.
    patience = ask["patienceMs"] / 1000 if ask.get("leaves") and not ask["stream"] else 30
    client = openai.OpenAI(
        base_url=door["url"] + "/v1", api_key=door["apiKey"], max_retries=0, timeout=patience
    )
    try:
        SURFACES[surface](client, ask, hearing, tools, schema)
    except Left:
        pass
    except Exception as error:
        response = getattr(error, "response", None)
        if response is not None:
            hearing.headers(response.headers)
        code = getattr(error, "code", None)
        hearing.said["error"] = {
            "name": type(error).__name__,
            "status": getattr(error, "status_code", None),
            "code": code if isinstance(code, str) else None,
            "message": str(error),
        }
    hearing.said["calls"] = [
        {"name": call["name"], "args": json.loads(call["args"])} for call in hearing.calls.values()
    ]
    return hearing.said


SURFACES = {
    "chat": chat,
    "completions": completions,
    "responses": responses,
    "embeddings": embeddings,
    "transcriptions": transcriptions,
}


def main():
    lock = threading.Lock()

    def answer(asked):
        said = say(asked["surface"], asked["door"], asked["ask"], asked["tools"], asked["schema"])
        with lock:
            print(json.dumps({"id": asked["id"], "said": said}), flush=True)

    for line in sys.stdin:
        threading.Thread(target=answer, args=(json.loads(line),), daemon=True).start()


if __name__ == "__main__":
    main()
