// Says in time that certificates of the local hub near their end: the hub's own, and those of the authorities that devices are
// known by. One whose end has come is of no use to any client, whatever else works.

import type { X509Certificate } from 'node:crypto';
import type { Clock } from '../core/clock.ts';
import type { HealthReport } from '../core/service.ts';
import { isoTime } from '../core/time.ts';
import type { Telemetry } from '../observe/events.ts';
import { certificatesIn } from '../platform/certificates.ts';

const DAY_MS = 86_400_000;
/** Before its end a certificate is spoken of for so long, one that lasts less than 90 days for a third of its time. */
const NEAR_MS = 30 * DAY_MS;

/** Certificates for one purpose. */
export interface WatchedCertificates {
  /** The field or file that they are from. */
  readonly from: string;
  /** One or more in each text. */
  readonly pems: readonly string[];
}

export interface CertificateWatch {
  /** Takes the place of what was watched before, and looks at once where it is other than that. */
  watch(sources: readonly WatchedCertificates[]): void;
  health(): HealthReport;
  stop(): void;
}

interface Watched {
  readonly from: string;
  readonly subject: string;
  readonly nearMs: number;
  readonly endMs: number;
}

/** Looks when a certificate comes near its end, when it ends, and once a day between. */
export function createCertificateWatch(clock: Clock, telemetry: Telemetry): CertificateWatch {
  let watched: readonly Watched[] = [];
  let known = '';
  let cancel: (() => void) | undefined;

  function look(): void {
    cancel?.();
    const now = clock.wallMs();
    for (const { from, subject, nearMs, endMs } of watched) {
      if (now < nearMs) continue;
      const fields = { key: `${from} ${subject}`, from, certificate: subject, ends: isoTime(endMs) };
      if (now < endMs) telemetry.emit('hub_certificate_near_end', { ...fields, daysLeft: wholeDays(endMs - now) });
      else telemetry.emit('hub_certificate_expired', fields);
    }
    const next = watched.flatMap(({ nearMs, endMs }) => [nearMs, endMs]).filter((atMs) => atMs > now);
    cancel = clock.after(Math.min(DAY_MS, ...next.map((atMs) => atMs - now)), look);
  }

  return {
    watch(sources) {
      const text = JSON.stringify(sources);
      if (text === known) return;
      known = text;
      watched = sources.flatMap(({ from, pems }) =>
        pems.flatMap((pem) => certificatesIn(pem)).map((certificate) => watchedOf(from, certificate)),
      );
      look();
    },
    health() {
      const now = clock.wallMs();
      const [first] = watched.filter(({ nearMs }) => now >= nearMs).toSorted((a, b) => a.endMs - b.endMs);
      if (first === undefined) return { status: 'running' };
      const { from, subject, endMs } = first;
      const day = isoTime(endMs).slice(0, 10);
      if (now >= endMs) return { status: 'failed', reason: `${from}: the certificate ${subject} expired on ${day}.` };
      const left = wholeDays(endMs - now);
      return { status: 'degraded', reason: `${from}: the certificate ${subject} ends on ${day} (days left: ${left}).` };
    },
    stop() {
      cancel?.();
    },
  };
}

function watchedOf(from: string, { subject, validFromDate, validToDate }: X509Certificate): Watched {
  const endMs = validToDate.getTime();
  const nearMs = endMs - Math.min(NEAR_MS, (endMs - validFromDate.getTime()) / 3);
  return { from, subject: subject.replaceAll('\n', ', '), nearMs, endMs };
}

function wholeDays(ms: number): number {
  return Math.floor(ms / DAY_MS);
}
