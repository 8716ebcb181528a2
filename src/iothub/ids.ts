// What names may look like on a hub (contract/device-auth.md, section 2; contract/device-semantics.md, section 4).

import { isDeviceId } from '../core/device.ts';

/** Ids of devices and modules, by Azure's rule. Compared with their case. */
export function isRegistryId(text: string): boolean {
  return isDeviceId(text.replaceAll(/[+#;]/g, '_'));
}

/**
 * Ids of devices and modules that can connect: not those with `+` and `#`, which have a meaning in MQTT topics (contract/
 * service-03-registry.md, section 2), nor with `;`, which ends a field of a connection string.
 */
export function isIdentityId(text: string): boolean {
  return isDeviceId(text);
}

/** Modules that an edge device has from the start; nobody may write their identities. */
export function isSystemModule(moduleId: string): boolean {
  return moduleId === '$edgeAgent' || moduleId === '$edgeHub';
}

/** Name of a direct method: printable ASCII without blanks and `$ ( ) < > @ , ; : \ " / [ ] ? = { }`. At most 128 characters. */
export function isMethodName(text: string): boolean {
  return /^[!#%&'*+\-.0-9A-Z^_`a-z|~]{1,128}$/.test(text);
}
