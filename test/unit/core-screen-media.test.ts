import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { callOf } from '../../worker/ingress/call.ts'
import { ENDPOINTS } from '../../worker/ingress/endpoints.ts'
import { isAllowed, refuseForeignMedia } from '../../worker/ingress/media.ts'
import { screen } from '../../worker/ingress/screen.ts'
import type { Json } from '../../worker/json.ts'
import type { Refusal } from '../../worker/refusal.ts'
import { limits } from './core-builders.ts'

const DOMAINS = ['img.example.com', '*.cdn.example.com', 'LAN.example:9000']
const EVIL = 'http://169.254.169.254/latest/meta-data'
const GOOD = 'https://img.example.com/a.png'
const DATA = 'data:image/png;base64,iVBORw0KGgo='

function refusalOf(body: Json, domains: readonly string[] = DOMAINS): Refusal | null {
  try {
    refuseForeignMedia(body, domains)
    return null
  } catch (error) {
    return error as Refusal
  }
}

/** Every shape in which a request may name media, around one address. */
const SHAPES: readonly { readonly param: string; readonly of: (url: string) => Json }[] = [
  {
    param: 'messages[0].content[1].image_url',
    of: (url) => ({
      messages: [
        {
          role: 'user',
          content: [
            { type: 'text', text: EVIL },
            { type: 'image_url', image_url: { url } },
          ],
        },
      ],
    }),
  },
  {
    param: 'messages[0].content[0].image_url',
    of: (url) => ({ messages: [{ content: [{ type: 'image_url', image_url: url }] }] }),
  },
  {
    param: 'messages[1].content[0].audio_url',
    of: (url) => ({ messages: [{}, { content: [{ audio_url: { url } }] }] }),
  },
  {
    param: 'messages[0].content[0].video_url',
    of: (url) => ({ messages: [{ content: [{ type: 'text', video_url: { url } }] }] }),
  },
  {
    param: 'messages[0].content[0].image_url',
    of: (url) => ({ messages: [{ content: [{ image_url: [{ url: [url] }] }] }] }),
  },
  {
    param: 'input[0].content[0].image_url',
    of: (url) => ({
      input: [{ role: 'user', content: [{ type: 'input_image', image_url: url }] }],
    }),
  },
  {
    param: 'input[0].content[0].file_url',
    of: (url) => ({ input: [{ content: [{ type: 'input_file', file_url: url }] }] }),
  },
  {
    param: 'input[0].output[0].image_url',
    of: (url) => ({
      input: [{ type: 'function_call_output', output: [{ type: 'input_image', image_url: url }] }],
    }),
  },
  {
    param: 'input[0].content[0].image_url',
    of: (url) => ({ type: 'tool_use', input: [{ content: [{ image_url: url }] }] }),
  },
  {
    param: 'messages[0].content[0].source',
    of: (url) => ({ messages: [{ content: [{ type: 'image', source: { type: 'url', url } }] }] }),
  },
  {
    param: 'messages[0].content[0].content[0].source',
    of: (url) => ({
      messages: [
        {
          content: [
            { type: 'tool_result', content: [{ type: 'document', source: { type: 'url', url } }] },
          ],
        },
      ],
    }),
  },
  {
    param: 'system[0].source',
    of: (url) => ({ system: [{ type: 'image', source: { type: 'url', url } }] }),
  },
  {
    param: 'queries.content[0].image_url',
    of: (url) => ({ queries: { content: [{ type: 'image_url', image_url: { url } }] } }),
  },
  {
    param: 'documents[1].content[0].image_url',
    of: (url) => ({ documents: ['x', { content: [{ type: 'image_url', image_url: { url } }] }] }),
  },
]

describe('media in a request', () => {
  it.each(SHAPES)('come only from allowed hosts: $param', ({ param, of }) => {
    const refusal = refusalOf(of(EVIL))
    expect(refusal?.code).toBe('unsupported_value')
    expect(refusal?.body.error.param).toBe(param)
    expect(refusalOf(of(GOOD))).toBeNull()
    expect(refusalOf(of(DATA), [])).toBeNull()
  })

  it('are refused by the first address that is wrong', () => {
    const content = [GOOD, DATA, EVIL, EVIL].map((url) => ({ image_url: { url } }))
    const param = refusalOf({ messages: [{ role: 'user', content }] })?.body.error.param
    expect(param).toBe('messages[0].content[2].image_url')
  })

  it('are told which hosts are allowed, or that none is, and what always works', () => {
    const body = SHAPES[0]!.of(EVIL)
    expect(refusalOf(body)?.message).toMatch(/only from img\.example\.com, \*\.cdn.*data URL/)
    expect(refusalOf(body, [])?.message).toMatch(/no media from other hosts.*data URL/)
  })

  it.each([
    { tools: [{ function: { parameters: { properties: { image_url: 'http://x' } } } }] },
    { response_format: { json_schema: { schema: { properties: { image_url: EVIL } } } } },
    { text: { format: { type: 'json_schema', schema: { default: { image_url: EVIL } } } } },
    { output_config: { format: { schema: { examples: [{ image_url: EVIL }] } } } },
    { output_format: { schema: { default: { image_url: EVIL } } } },
    { metadata: { image_url: EVIL } },
    { messages: [{ tool_calls: [{ function: { arguments: { image_url: EVIL } } }] }] },
    { messages: [{ content: [{ type: 'tool_use', input: { image_url: EVIL } }] }] },
    { messages: [{ content: [{ type: 'search_result', source: EVIL }] }] },
    { messages: [{ content: `see ${EVIL}` }], user: EVIL },
    { messages: [{ content: [{ type: 'image_url', image_url: null, uuid: 'u' }] }] },
    { image_url: { detail: 'low' }, url: EVIL },
  ])('are not what only looks like them: %o', (body) => {
    expect(refusalOf(body)).toBeNull()
  })

  it('are found at any depth', () => {
    const levels = 100_000
    const deep = JSON.parse(
      `{"input":${'['.repeat(levels)}{"image_url":"${EVIL}"}${']'.repeat(levels)}}`,
    ) as Json
    const refusal = refusalOf(deep)
    expect(refusal?.code).toBe('unsupported_value')
    expect(refusal?.body.error.param).toMatch(/^(?:\[0\])+\.image_url$/)
    expect(refusal?.message.length).toBeLessThan(1_000)
  })

  it('are screened with the rest of the request', () => {
    const rules = { limits: limits(), mediaDomains: DOMAINS, salt: 's' }
    const call = (url: string) => callOf(SHAPES[0]!.of(url), 100)
    expect(screen(ENDPOINTS[0]!, call(GOOD), rules).removed).toEqual([])
    expect(() => screen(ENDPOINTS[0]!, call(EVIL), rules)).toThrow(
      expect.objectContaining({ code: 'unsupported_value' }),
    )
  })
})

describe('an address', () => {
  it.each([
    GOOD,
    'http://img.example.com',
    'HTTPS://IMG.Example.COM/a.png?x=@y#z',
    'https://img.example.com:443/a',
    'http://img.example.com:80/a',
    'https://img.example.com?x',
    'https://a.cdn.example.com/a',
    'https://a.b.cdn.example.com/a',
    'https://img.example.com/ä/猫.png',
    'http://lan.example:9000/bucket/a.png',
    DATA,
    'DATA:image/png;base64,AAAA',
    `data:image/png;base64,${'A'.repeat(100_000)}`,
  ])('is allowed: %s', (url) => {
    expect(isAllowed(url, DOMAINS)).toBe(true)
  })

  it.each([
    '',
    'img.example.com/a.png',
    '//img.example.com/a.png',
    '///img.example.com/a.png',
    'https:img.example.com/a.png',
    'https:/img.example.com/a.png',
    'https:///img.example.com/a.png',
    'file:///etc/passwd',
    'file://img.example.com/etc/passwd',
    'ftp://img.example.com/a',
    'javascript:alert(1)',
    'blob:https://img.example.com/1',
    's3://img.example.com/a',
    'http+unix://img.example.com/a',
    ' https://img.example.com/a',
    'https://img.example.com/a b',
    'https://img.example.com/a\n',
    '\thttps://img.example.com/a',
    'ht\ntps://img.example.com/a',
    'https://img.exam\tple.com/a',
    'https://user@img.example.com/a',
    'https://user:pass@img.example.com/a',
    'https://img.example.com@evil.example/a',
    'https://img.example.com:x@evil.example/a',
    'https://evil.example#@img.example.com/a',
    'https://evil.example?@img.example.com/a',
    'https://evil.example\\@img.example.com/a',
    'https://img.example.com\\@evil.example/a',
    'https:\\\\img.example.com/a',
    'https://img.example.com/\\..\\a',
    'https://img.example.com./a',
    'https://img.example.com:8443/a',
    'http://img.example.com:443/a',
    'https://img.example.com:/a',
    'https://img.example.com:99999/a',
    'https://img.example.com.evil.example/a',
    'https://evilimg.example.com/a',
    'https://example.com/a',
    'https://x.img.example.com/a',
    'https://cdn.example.com/a',
    'https://evilcdn.example.com/a',
    'https://.cdn.example.com/a',
    'https://%69mg.example.com/a',
    'https://img%2eexample.com/a',
    'https://img.example。com/a',
    'https://ⅰmg.example.com/a',
    'https://\u212A.cdn.example.com/a',
    'http\u017F://img.example.com/a',
    'https://127.0.0.1/a',
    'https://0x7f.1/a',
    'https://2130706433/a',
    'https://[::1]/a',
    'https://[::ffff:127.0.0.1]/a',
    'https://localhost/a',
    'http://lan.example/a',
    `https://img.example.com/${'x'.repeat(9_000)}`,
    'dat\na:image/png,x',
    ' data:image/png,x',
    'data',
  ])('is not allowed: %s', (url) => {
    expect(isAllowed(url, DOMAINS)).toBe(false)
  })

  it('of an IP is taken only as the operator wrote it', () => {
    expect(isAllowed('http://10.0.0.5/a', ['10.0.0.5'])).toBe(true)
    for (const trick of [
      'http://0xa.5/a',
      'http://10.5/a',
      'http://167772165/a',
      'http://010.0.0.5/a',
    ])
      expect(isAllowed(trick, ['10.0.0.5'])).toBe(false)
  })

  it('that is allowed names an allowed host to any parser, however it is put together', () => {
    const marks = ['https:', 'http:', '//', '/', '\\', '@', ':', '#', '?', '.', '%2e', '%40', ' ']
    const odd = [
      '\t',
      '\n',
      '\0',
      '。',
      'ⓔ',
      '\u00ad',
      ';',
      '&',
      'file:',
      '443',
      '127.0.0.1',
      '[::1]',
    ]
    const hosts = ['img.example.com', 'cdn.example.com', 'evil.example', 'a']
    const piece = fc.constantFrom(...marks, ...odd, ...hosts)
    const authority = /^https?:\/\/([^/?#\\]*)/i
    let allowed = 0
    const url = fc
      .tuple(fc.constantFrom('', 'https://', 'http://', 'https://img.example.com'), fc.array(piece))
      .map(([start, rest]) => start + rest.join(''))
    fc.assert(
      fc.property(url, (text) => {
        if (text.startsWith('data:') || !isAllowed(text, DOMAINS)) return
        allowed++
        const named = authority.exec(text)?.[1]?.replace(/:\d+$/, '').toLowerCase()
        expect(named).toBe(new URL(text).hostname)
        expect(named).toMatch(/^(?:img\.example\.com|(?:[a-z0-9_-]+\.)+cdn\.example\.com)$/)
        expect(text).not.toMatch(/[\\\s\0]/)
      }),
      { numRuns: 5_000 },
    )
    expect(allowed).toBeGreaterThan(50)
  })
})
