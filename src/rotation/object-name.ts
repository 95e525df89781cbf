/** The name of a Kubernetes object or namespace, as a regular expression: what the API calls a DNS subdomain. */
export const objectName = '[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?'

/** NAMESPACE/NAME. */
export const namespacedName = new RegExp(`^${objectName}/${objectName}$`)
