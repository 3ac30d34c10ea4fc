import { create, toBinary } from '@bufbuild/protobuf'
import { fileDesc, serviceDesc, type GenService } from '@bufbuild/protobuf/codegenv2'
import { base64Encode } from '@bufbuild/protobuf/wire'
import {
  FileDescriptorProtoSchema,
  type StringValueSchema,
  file_google_protobuf_wrappers,
} from '@bufbuild/protobuf/wkt'

type Text = typeof StringValueSchema
type Method<K> = { methodKind: K; input: Text; output: Text }

const METHODS = ['Generate', 'Embed', 'GetModelInfo', 'Abort']
const file = fileDesc(
  base64Encode(
    toBinary(
      FileDescriptorProtoSchema,
      create(FileDescriptorProtoSchema, {
        name: 'vllm_engine.proto',
        package: 'vllm.grpc.engine',
        syntax: 'proto3',
        dependency: ['google/protobuf/wrappers.proto'],
        service: [
          {
            name: 'VllmEngine',
            method: METHODS.map((name) => ({
              name,
              inputType: '.google.protobuf.StringValue',
              outputType: '.google.protobuf.StringValue',
              serverStreaming: name === 'Generate',
            })),
          },
        ],
      }),
    ),
  ),
  [file_google_protobuf_wrappers],
)
/** vLLM's gRPC service as far as a proxy sees it: its methods' names and kinds. Its messages are texts. */
export const VllmEngine: GenService<{
  generate: Method<'server_streaming'>
  embed: Method<'unary'>
  getModelInfo: Method<'unary'>
  abort: Method<'unary'>
}> = serviceDesc(file, 0)
