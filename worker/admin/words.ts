/** How the operators' API calls the objects it could not reach. */
export const FLEET_SERVICE = 'fleet service'
export const SCHEDULER = 'scheduler'
export const ACCOUNT_SERVICE = 'account service'
export const DIRECTORY = 'list of tenants'
export const OPERATORS_SERVICE = 'list of operators'
