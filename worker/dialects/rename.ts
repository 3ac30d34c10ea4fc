import { stringReplaced, valueAt } from './json-text.ts'

/**
 * Puts another name in place of the model's in a frame whose JSON has it one level down, as in
 * `{"response":{…,"model":"…"}}`, and keeps every other byte. A tenant's own metadata or tool
 * schemas may stand before it and have a `model` of their own, so the place is found by its depth.
 *
 * @param frame a frame's whole text, `data:` included
 * @param outer the member that holds the model's name
 */
export const renameInside = (frame: string, outer: string, said: string, shown: string): string =>
  stringReplaced(frame, valueAt(frame, [outer, 'model']), said, shown)
