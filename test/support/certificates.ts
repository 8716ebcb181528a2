// Certificate authorities and certificates for tests, made by OpenSSL so that nothing of ours checks our own work.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from './command.ts';

export interface KeyPair {
  readonly certificatePath: string;
  readonly keyPath: string;
  /** PEM. */
  readonly certificate: string;
  readonly key: string;
}

export interface IssueOptions {
  /** Common name; also the name of the files. */
  readonly name: string;
  /** DNS names and IP addresses of a server. Without them it is a client's certificate. */
  readonly hosts?: readonly string[];
  /** Days from now to the end; 0 or less: already expired. Default 30. */
  readonly days?: number;
  /** Default: a day ago, or a day before its end. */
  readonly startsInDays?: number;
}

export interface Authority extends KeyPair {
  issue(options: IssueOptions): Promise<KeyPair>;
}

function readPair(directory: string, name: string): KeyPair {
  const certificatePath = join(directory, `${name}.crt`);
  const keyPath = join(directory, `${name}.key`);
  return {
    certificatePath,
    keyPath,
    certificate: readFileSync(certificatePath, 'utf8'),
    key: readFileSync(keyPath, 'utf8'),
  };
}

/** A new authority whose files stand in `directory`. */
export async function createAuthority(directory: string, name = 'ca'): Promise<Authority> {
  const path = (suffix: string): string => join(directory, `${name}.${suffix}`);
  await run('openssl', [
    'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '30',
    '-subj', `/CN=Fieldpost test ${name}`, '-keyout', path('key'), '-out', path('crt'),
  ]); // prettier-ignore
  return { ...readPair(directory, name), issue: (options) => issue(directory, name, options) };
}

async function issue(directory: string, authority: string, options: IssueOptions): Promise<KeyPair> {
  const { name, hosts = [], days = 30, startsInDays } = options;
  const path = (suffix: string): string => join(directory, `${name}.${suffix}`);
  await run('openssl', [
    'req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes',
    '-subj', `/CN=${name}`, '-keyout', path('key'), '-out', path('csr'),
  ]); // prettier-ignore
  const names = hosts.map((host) => (/^[0-9.]+$|:/.test(host) ? `IP:${host}` : `DNS:${host}`));
  const extensions =
    hosts.length > 0
      ? `subjectAltName=${names.join(',')}\nextendedKeyUsage=serverAuth\n`
      : 'extendedKeyUsage=clientAuth\n';
  writeFileSync(path('ext'), `basicConstraints=CA:FALSE\n${extensions}`);
  const end = new Date(Date.now() + days * 86_400_000);
  const start = new Date(
    startsInDays === undefined
      ? Math.min(Date.now(), end.getTime()) - 86_400_000
      : Date.now() + startsInDays * 86_400_000,
  );
  const stamp = (date: Date): string => date.toISOString().replace(/[-:T]|\.\d+/g, '');
  // `openssl ca` alone can set both dates; it wants a small database of its own.
  const database = path('db');
  writeFileSync(database, '');
  writeFileSync(
    path('cnf'),
    `[ca]\ndefault_ca=d\n[d]\ndatabase=${database}\nnew_certs_dir=${directory}\nrand_serial=yes\ndefault_md=sha256\npolicy=p\nunique_subject=no\n[p]\ncommonName=supplied\n`,
  );
  await run('openssl', [
    'ca', '-batch', '-notext', '-config', path('cnf'), '-cert', join(directory, `${authority}.crt`),
    '-keyfile', join(directory, `${authority}.key`), '-in', path('csr'), '-out', path('crt'),
    '-startdate', stamp(start), '-enddate', stamp(end), '-extfile', path('ext'),
  ]); // prettier-ignore
  return readPair(directory, name);
}
