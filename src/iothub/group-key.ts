// Keys of devices that are derived from the key of their group (contract/dps.md, section 2).

import type { SasCrypto } from './sas-token.ts';

/** The symmetric key of one device of an enrolment group, in base64. @param groupKey base64. */
export function deriveDeviceKey(
  groupKey: string,
  registrationId: string,
  { hmacSha256 }: Pick<SasCrypto, 'hmacSha256'>,
): string {
  return Buffer.from(hmacSha256(Buffer.from(groupKey, 'base64'), registrationId)).toString('base64');
}
