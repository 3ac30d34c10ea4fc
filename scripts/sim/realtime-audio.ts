/** What a realtime session hears: its audio, the tokens of it, the words in it. */
import { BYTES_PER_SECOND, SAID_PER_SECOND } from './audio.ts'
import type { Body } from './body.ts'
import { prose, type ScriptToken } from './script.ts'
import { mix, random } from './tokenizer.ts'

/** Tokens of the audio encoder for one second. */
const AUDIO_TOKENS_PER_SECOND = 12.5
/** Tokens before the audio: what the model is told to do. */
const INSTRUCTIONS = 4

/**
 * What is heard in the first `seconds` of an utterance: the same words in every session with the
 * same seed, so that a test knows them before it asks.
 */
export const heard = (seed: number, seconds: number): ScriptToken[] =>
  prose(random(mix(seed, 0x5ea)), 'content', Math.ceil(seconds * SAID_PER_SECOND))

/** The prompt of an utterance that begins with so much audio. */
export function promptOf(seed: number, seconds: number): number[] {
  const length = INSTRUCTIONS + Math.ceil(seconds * AUDIO_TOKENS_PER_SECOND)
  return Array.from({ length }, (_, i) => mix(seed, i) % 50_000)
}

/** Seconds of audio in base64; null for what is no audio, or none. */
export function secondsOf(audio: unknown): number | null {
  const bytes = audioBytes(audio)
  return bytes === null ? null : bytes / BYTES_PER_SECOND
}

/** An append event as the record keeps it. */
export const shown = (event: Body): Body => ({
  ...event,
  audio: `${audioBytes(event['audio']) ?? 0} bytes`,
})

/** Bytes of 16-bit samples; null for what is none, or nothing. */
function audioBytes(audio: unknown): number | null {
  if (typeof audio !== 'string' || !/^[A-Za-z0-9+/\s]*={0,2}$/.test(audio)) return null
  const { length } = Buffer.from(audio, 'base64')
  return length === 0 || length % 2 === 1 ? null : length
}
