import { X509Certificate } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createCertificateWatch, type CertificateWatch } from '../../../../src/gateway/certificate-watch.ts';
import type { EventName } from '../../../../src/observe/events.ts';
import { createAuthority, type Authority, type KeyPair } from '../../../support/certificates.ts';
import { ManualClock } from '../../../support/manual-clock.ts';
import { createTempDir, type TempDir } from '../../../support/temp-dir.ts';

const DAY_MS = 86_400_000;
let dir: TempDir;
let authority: Authority;
let year: KeyPair;
let clock: ManualClock;
let watch: CertificateWatch;
let said: { readonly name: EventName; readonly fields: Readonly<Record<string, unknown>> | undefined }[];

beforeAll(async () => {
  dir = createTempDir('certificate-watch');
  authority = await createAuthority(dir.path);
  year = await authority.issue({ name: 'hub.local', hosts: ['hub.local'], days: 365 });
});
afterAll(() => dir.remove());

beforeEach(() => {
  clock = new ManualClock();
  said = [];
  watch = createCertificateWatch(clock, { emit: (name, fields) => void said.push({ name, fields }) });
});

/** Sets the clock to so many days before the end of a certificate. */
function before(pem: string, days: number): void {
  clock.step(new X509Certificate(pem).validToDate.getTime() - days * DAY_MS - clock.wallMs());
}

const own = (pem: string) => [{ from: 'hub.certificates', pems: [pem] }];
const names = () => said.map(({ name }) => name);

describe('the certificates of the hub', () => {
  it('are spoken of from 30 days before their end, once a day, and as expired from then on', () => {
    before(year.certificate, 31);
    watch.watch(own(year.certificate));
    expect(watch.health()).toEqual({ status: 'running' });
    clock.advance(DAY_MS - 1000);
    expect(said).toEqual([]);
    clock.advance(1000);
    expect(said).toMatchObject([
      {
        name: 'hub_certificate_near_end',
        fields: { from: 'hub.certificates', certificate: 'CN=hub.local', daysLeft: 30 },
      },
    ]);
    expect(watch.health()).toMatchObject({ status: 'degraded' });
    expect(watch.health().reason).toMatch(/hub\.certificates.*CN=hub\.local.*days left: 30/);
    clock.advance(29 * DAY_MS);
    expect(names()).toEqual(Array<EventName>(30).fill('hub_certificate_near_end'));
    clock.advance(DAY_MS);
    expect(names().slice(30)).toEqual(['hub_certificate_expired']);
    expect(watch.health()).toMatchObject({ status: 'failed' });
    clock.advance(2 * DAY_MS);
    expect(names().slice(30)).toHaveLength(3);
  });

  it('are found near their end or expired at the start', () => {
    before(year.certificate, 3.5);
    watch.watch(own(year.certificate));
    expect(said).toMatchObject([{ name: 'hub_certificate_near_end', fields: { daysLeft: 3 } }]);
    clock.step(10 * DAY_MS);
    expect(watch.health()).toMatchObject({ status: 'failed' });
    // The clock was set: it is seen within a day.
    clock.advance(DAY_MS);
    expect(names()).toEqual(['hub_certificate_near_end', 'hub_certificate_expired']);
  });

  it('are forgotten when others take their place, and said once where they do not change', () => {
    before(year.certificate, 10);
    watch.watch(own(year.certificate));
    watch.watch(own(year.certificate));
    expect(said).toHaveLength(1);
    watch.watch([]);
    expect(watch.health()).toEqual({ status: 'running' });
    clock.advance(20 * DAY_MS);
    expect(said).toHaveLength(1);
    watch.stop();
    expect(clock.waiting).toBe(0);
  });

  it('that last less than 90 days are spoken of in their last third; every one of a chain counts', () => {
    before(authority.certificate, 10.5);
    watch.watch([{ from: 'hub.authorities', pems: [`${year.certificate}${authority.certificate}`] }]);
    expect(said).toEqual([]);
    clock.advance(DAY_MS);
    expect(said).toMatchObject([{ fields: { from: 'hub.authorities', certificate: 'CN=Fieldpost test ca' } }]);
  });
});
