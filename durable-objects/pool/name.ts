/**
 * Name of a pool's object. An object stays where it was first created, so the region is part of its
 * name: a pool that moves to another region gets a new object there.
 */
export const poolObjectName = (pool: string, region: string | null): string =>
  region === null ? pool : `${pool}@${region}`

/** The pool a name was made from. */
export const poolOfObjectName = (name: string): string => name.split('@')[0] ?? name
