import { app } from './app.ts'

export { Fleet } from '../durable-objects/fleet/fleet-object.ts'
export { Operators } from '../durable-objects/operators/operators-object.ts'
export { Pool } from '../durable-objects/pool/pool-object.ts'
export { Directory } from '../durable-objects/tenant/directory-object.ts'
export { Tenant } from '../durable-objects/tenant/tenant-object.ts'

export default app
