import pc from 'picocolors'

/** What a local run says while it comes up. Colours are left out by themselves where there is no terminal. */
export interface Screen {
  /** Something is up. */
  done(text: string): void
  /** Something is not as wished, and the run goes on. */
  note(text: string): void
  /** The run ends because of this. */
  fail(text: string): void
  text(text: string): void
}

export const screenOf = (out: (line: string) => void, err: (line: string) => void): Screen => ({
  done: (text) => out(`${pc.green('✓')} ${text}`),
  note: (text) => out(`${pc.yellow('!')} ${text}`),
  fail: (text) => err(`${pc.red('✗')} ${text}`),
  text: out,
})

export interface Welcome {
  readonly url: string
  readonly apiKey: string
  /** Before `npx penstock …`, where that does not find this run by itself. */
  readonly environment: string
  readonly model: string
}

/** What to paste next, once everything runs. */
export function welcome({ url, apiKey, environment, model }: Welcome): string {
  const body = { model, stream: true, messages: [{ role: 'user', content: 'Hello' }] }
  const title = (text: string) => pc.bold(text)
  return `
${title('Penstock is running')}

  Base URL   ${pc.cyan(`${url}/v1`)}
  API key    ${pc.cyan(apiKey)}

${title('A first stream')}

curl -N ${url}/v1/chat/completions \\
  -H 'authorization: Bearer ${apiKey}' \\
  -H 'content-type: application/json' \\
  -d '${JSON.stringify(body)}'

${title('With the OpenAI SDK (Node)')}

import OpenAI from 'openai'
const client = new OpenAI({ baseURL: '${url}/v1', apiKey: '${apiKey}' })
const stream = await client.chat.completions.create({
  model: '${model}', stream: true, messages: [{ role: 'user', content: 'Hello' }],
})
for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta.content ?? '')

${title('With Python')}

from openai import OpenAI
client = OpenAI(base_url="${url}/v1", api_key="${apiKey}")
stream = client.chat.completions.create(
    model="${model}", stream=True, messages=[{"role": "user", "content": "Hello"}]
)
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="")

${title('Which instances are ready, and what they have to do')}

${environment}npx penstock status

Ctrl-C stops everything.
`
}
