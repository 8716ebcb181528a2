// Who a client is, and as which devices it may publish.

import { errorText, hashPassword, isLoopbackHost, keepPasswordHashes, verifyPassword, type AdapterContext } from '#sdk';
import type { ClientConfig, MqttConfig } from './config.ts';
import { PasswordMemory } from './password-memory.ts';

export interface Principal {
  /** Undefined for an anonymous client. */
  readonly username: string | undefined;
  mayPublishAs(device: string): boolean;
  /** Whether it may send commands to the device: to its own. */
  mayCommand(device: string): boolean;
  /** Of those that may publish as every device: bridges and tools, which may send commands to all as well. */
  readonly everyDevice: boolean;
}

export interface Authenticator {
  /** Undefined when refused. @throws GatewayError GW_THROTTLED when too many wait for a check. */
  authenticate(login: Login): Promise<Principal | undefined>;
  /** Keeps salted hashes of the clear passwords in the data directory, without haste. Never rejects. */
  hashPasswords(signal: AbortSignal): Promise<void>;
}

type AuthenticatorContext = Pick<AdapterContext, 'adapterId' | 'clock' | 'dataDirectory' | 'log'>;

export interface Login {
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly remoteAddress: string;
}

/**
 * A login is compared with what is known to be right in this process, as keyed digests, and else with the salted hash. A
 * clear password of the configuration is known from the load on: a thousand devices that come back after a restart wait for
 * no slow hash. Its hash is made, or checked against the one of the last run, in the background.
 */
export function createAuthenticator(
  config: Pick<MqttConfig, 'anonymous' | 'clients'>,
  { adapterId, clock, dataDirectory, log }: AuthenticatorContext,
): Authenticator {
  const memory = new PasswordMemory();
  const passwords = new Map<string, string>();
  const hashes = new Map<string, string>();
  const principals = new Map<string, Principal>();
  const nobody = anonymousPrincipal(config.clients);
  for (const client of config.clients) {
    const { username, password, password_hash: encoded } = client;
    principals.set(username, principalOf(client));
    if (encoded !== undefined) hashes.set(username, encoded);
    if (password === undefined) continue;
    memory.remember(username, password);
    passwords.set(username, password);
  }
  /** Takes as long for a name that does not exist as for one that does. */
  let decoy: Promise<string> | undefined;

  return {
    async authenticate({ username, password, remoteAddress }) {
      if (username === undefined) {
        const allowed =
          config.anonymous === 'all' || (config.anonymous === 'loopback' && isLoopbackPeer(remoteAddress));
        return allowed ? nobody : undefined;
      }
      if (password === undefined || principals.size === 0) return undefined;
      const principal = principals.get(username);
      if (principal !== undefined && memory.knows(username, password)) return principal;
      const encoded = hashes.get(username);
      const isRight = await verifyPassword(password, encoded ?? (await (decoy ??= hashPassword(''))));
      if (!isRight || principal === undefined || encoded === undefined) return undefined;
      memory.remember(username, password);
      log.debug({ username }, 'A client gave its password for the first time since the start.');
      return principal;
    },
    async hashPasswords(signal) {
      const onHash = (username: string, encoded: string): void => void hashes.set(username, encoded);
      try {
        await keepPasswordHashes({ dataDirectory, owner: adapterId, passwords, clock, signal, onHash });
      } catch (error) {
        log.warn({ error: errorText(error) }, 'The salted hashes of the passwords of clients could not be kept.');
      }
    },
  };
}

function principalOf({ username, devices = [username] }: ClientConfig): Principal {
  const allowed = new Set(devices);
  const everyDevice = allowed.has('*');
  const isItsOwn = (device: string): boolean => everyDevice || allowed.has(device);
  return { username, mayPublishAs: isItsOwn, mayCommand: isItsOwn, everyDevice };
}

/** Without a name nobody speaks for a device that a client with a password is there for, nor sends commands. */
function anonymousPrincipal(clients: readonly ClientConfig[]): Principal {
  const owned = new Set(clients.flatMap(({ username, devices = [username] }) => devices));
  return {
    username: undefined,
    mayPublishAs: (device) => !owned.has(device),
    mayCommand: () => false,
    everyDevice: false,
  };
}

function isLoopbackPeer(address: string): boolean {
  return isLoopbackHost(address.replace(/^::ffff:/, ''));
}
