// Certificates of the local hub: those that a person gave, else its own, and what is watched of them and of the devices' authorities.

import { statSync } from 'node:fs';
import { hostname, networkInterfaces } from 'node:os';
import type { HubConfig } from '../config/hub-schema.ts';
import type { Clock } from '../core/clock.ts';
import type { Sealer } from '../platform/sealing.ts';
import type { ServerCertificate } from '../wire/hub-doors.ts';
import type { WatchedCertificates } from './certificate-watch.ts';

/** @throws GatewayError GW_SEALED, GW_TLS; Error of the file system. */
export async function certificatesOf(
  config: HubConfig,
  { dataDirectory, clock }: { readonly dataDirectory: string; readonly clock: Clock },
  sealer: Sealer,
): Promise<readonly ServerCertificate[]> {
  if (config.certificates !== undefined) return config.certificates;
  const { openPki } = await import('../platform/pki.ts');
  const { certificates } = await openPki({
    dataDirectory,
    sealer,
    hostName: config.hostName,
    names: ownNames(config),
    builtAtMs: builtAtMs(),
    wallMs: clock.wallMs(),
  });
  return certificates;
}

export function watchedOf(
  config: HubConfig,
  certificates: readonly ServerCertificate[],
): readonly WatchedCertificates[] {
  return [
    {
      from: config.certificates === undefined ? 'pki' : 'hub.certificates',
      pems: certificates.map(({ certificate }) => certificate),
    },
    { from: 'hub.authorities', pems: config.authorities },
  ];
}

/** A file system without a clock gives times of 1970. */
const EARLIEST_BUILD_MS = Date.UTC(2026, 0, 1);

/** When this program was put here: no file of it is newer than its build. */
function builtAtMs(): number {
  return Math.max(Math.trunc(statSync(import.meta.filename).mtimeMs), EARLIEST_BUILD_MS);
}

/** Names and addresses by which clients may reach the hub. */
export function ownNames({ address, hostName }: HubConfig): readonly string[] {
  const everywhere = address === '0.0.0.0' || address === '::';
  const interfaces = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  // A link-local address of IPv6 means another machine on each link.
  const addresses = interfaces.map((entry) => entry.address).filter((text) => !/^fe80:/i.test(text));
  return [...new Set([hostName, 'localhost', hostname(), '127.0.0.1', ...(everywhere ? addresses : [address])])];
}
