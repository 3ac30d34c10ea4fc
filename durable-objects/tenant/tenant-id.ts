/** A tenant's id: lower-case letters, digits and hyphens, a letter or digit at either end. */
export const TENANT_ID = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/
