import { X509Certificate } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { IdentityRef } from '../../../../src/core/hub/identity.ts';
import { createAuthority, type Authority, type KeyPair } from '../../../support/certificates.ts';
import { HOST, HUB, hubRig, refusalOf, type HubRig } from '../../../support/hub.ts';
import { createTempDir, type TempDir } from '../../../support/temp-dir.ts';
import { waitFor } from '../../../support/wait.ts';

let dir: TempDir;
let authority: Authority;
let stranger: Authority;
let other: Authority;
let own: KeyPair;
let expired: KeyPair;
let rig: HubRig;
const d1 = { deviceId: 'd1' };

const der = ({ certificate }: KeyPair): Uint8Array => new X509Certificate(certificate).raw;

beforeAll(async () => {
  dir = createTempDir('hub-certificates');
  authority = await createAuthority(dir.directory('a'), 'ca');
  stranger = await createAuthority(dir.directory('b'), 'ca');
  other = await createAuthority(dir.directory('c'), 'other');
  own = await authority.issue({ name: 'd1' });
  expired = await authority.issue({ name: 'd2', days: -1 });
});

afterAll(() => dir.remove());

beforeEach(async () => {
  rig = await hubRig();
  // The certificates were made now.
  rig.clock.step(Date.parse(new X509Certificate(own.certificate).validTo) - 86_400_000 - rig.clock.wallMs());
});

function login(ref: IdentityRef, ...chain: readonly KeyPair[]) {
  const credential = { kind: 'x509', chain: chain.map(der) } as const;
  return rig.hub.access.login({ hostName: HOST, remoteAddress: '::1', protocol: 'mqtt', credential, claimed: ref });
}

describe('client certificates', () => {
  it('prove a device by either kind of thumbprint, until it is removed', async () => {
    const certificate = new X509Certificate(own.certificate);
    for (const [index, thumbprint] of [certificate.fingerprint, certificate.fingerprint256].entries()) {
      const ref = { deviceId: `t${index}` };
      const x509Thumbprint = { primaryThumbprint: null, secondaryThumbprint: thumbprint.toLowerCase() };
      await rig.hub.identities.putDevice(
        HUB,
        { ...ref, authentication: { type: 'selfSigned', x509Thumbprint } },
        undefined,
      );
      const principal = await login(ref, own);
      expect(principal).toMatchObject({ kind: 'device', identity: ref });
      expect(principal.expiresAtMs).toBeUndefined();
      expect(await refusalOf(login(ref, stranger))).toBe('IotHubUnauthorizedAccess');
      const request = { principal, protocol: 'mqtt', remoteAddress: '::1', persistent: false } as const;
      await rig.hub.sessions.open('test', request);
      const other = { primaryThumbprint: 'B'.repeat(40), secondaryThumbprint: null };
      const authentication = { type: 'selfSigned', x509Thumbprint: other } as const;
      await rig.hub.identities.putDevice(HUB, { ...ref, authentication }, '*');
      await waitFor(() => rig.sent.some((item) => item.kind === 'end' && item.reason === 'credential_revoked'));
      expect(rig.hub.sessionsOf(HUB)).toEqual([]);
    }
  });

  it('prove a device by an authority of the hub, until it is removed', async () => {
    const authentication = { type: 'certificateAuthority' } as const;
    for (const deviceId of ['d1', 'd2', 'd3']) {
      await rig.hub.identities.putDevice(HUB, { deviceId, authentication }, undefined);
    }
    expect(await refusalOf(login(d1, own))).toBe('IotHubUnauthorizedAccess');
    const authorities = rig.hub.authoritiesOf(HUB);
    await authorities.set([`${other.certificate}${authority.certificate}`]);
    const thumbprint = new X509Certificate(authority.certificate).fingerprint256.replaceAll(':', '');
    const principal = await login(d1, own);
    expect(principal.grantedBy).toBe(`ca:${thumbprint}`);
    expect(await refusalOf(login({ deviceId: 'd3' }, own))).toBe('IotHubUnauthorizedAccess');
    expect(await refusalOf(login({ deviceId: 'd2' }, expired))).toBe('IotHubUnauthorizedAccess');
    expect(await refusalOf(login(d1, await stranger.issue({ name: 'd1' })))).toBe('IotHubUnauthorizedAccess');
    const request = { principal, protocol: 'mqtt', remoteAddress: '::1', persistent: false } as const;
    await rig.hub.sessions.open('test', request);
    await authorities.set([authority.certificate]);
    expect(rig.hub.sessionsOf(HUB)).toHaveLength(1);
    await authorities.set([other.certificate]);
    expect(rig.hub.sessionsOf(HUB)).toEqual([]);
    expect(await refusalOf(login(d1, own))).toBe('IotHubUnauthorizedAccess');
  });
});
