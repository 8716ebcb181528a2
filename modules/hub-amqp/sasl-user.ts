// User names of SASL PLAIN (contract/service-01, section 6.2; contract/device-auth.md, section 6).

import { isIdentityId, type IdentityRef } from '#sdk';

/** `{device}[/{module}]@sas.{hub}`, with or without `modules/` between the two, or `{policy}@sas.root.{hub}`; undefined for anything else. */
export function parseSaslUser(
  text: string,
): { readonly claimed: IdentityRef | { readonly policy: string }; readonly hubName: string } | undefined {
  const [, name = '', root, hubName = ''] = /^(.{1,300})@sas\.(root\.)?([^@]{1,256})$/.exec(text) ?? [];
  if (root !== undefined && name !== '') return { claimed: { policy: name }, hubName };
  const [deviceId = '', moduleId, ...rest] = name.replace(/^([^/]+)\/modules\/(?=[^/]+$)/, '$1/').split('/');
  if (!isIdentityId(deviceId) || rest.length > 0) return undefined;
  if (moduleId === undefined) return { claimed: { deviceId }, hubName };
  return isIdentityId(moduleId) ? { claimed: { deviceId, moduleId }, hubName } : undefined;
}

/** Whether a user name's `{hub}` is a hub of these names: it has the first label of one, as SDKs cut it, or the whole of it. */
export function isHubName(text: string, hostNames: readonly string[]): boolean {
  const name = text.toLowerCase();
  return hostNames.some((host) => {
    const known = host.toLowerCase();
    return known === name || known.split('.', 1)[0] === name;
  });
}
