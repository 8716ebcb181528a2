// Shared access policies: rights are configuration, keys are data (or configuration where a person gives them), drawn when a
// policy is seen first and kept sealed (contract/service-01-auth.md, section 1).

import type { AccessPolicy, Permission } from '../core/hub/access.ts';
import { LIMITS } from '../core/limits.ts';
import { iotHubError } from '../iothub/errors.ts';
import type { Sealer } from '../platform/sealing.ts';
import { changeOf, type HubStore } from './hub-store.ts';
import { POLICIES_KEY } from './keys.ts';

/** One policy as it is configured. */
export interface PolicySettings {
  readonly name: string;
  readonly permissions: readonly Permission[];
  /** Base64; drawn when absent. */
  readonly primaryKey?: string | undefined;
  readonly secondaryKey?: string | undefined;
}

/** A policy with the numbers of its keys, which tell earlier keys apart. */
export interface NumberedPolicy extends AccessPolicy {
  readonly numbers: readonly [primary: number, secondary: number];
}

/** Those that every hub of the service has (contract/service-01, section 1). */
export const DEFAULT_POLICIES: readonly PolicySettings[] = [
  { name: 'iothubowner', permissions: ['RegistryRead', 'RegistryWrite', 'ServiceConnect', 'DeviceConnect'] },
  { name: 'service', permissions: ['ServiceConnect'] },
  { name: 'device', permissions: ['DeviceConnect'] },
  { name: 'registryRead', permissions: ['RegistryRead'] },
  { name: 'registryReadWrite', permissions: ['RegistryRead', 'RegistryWrite'] },
];

interface KeptKeys {
  readonly primaryKey: string;
  readonly secondaryKey: string;
  readonly numbers: readonly [number, number];
}

export interface Policies {
  /** Reads them, or draws keys, at the first call. @throws GatewayError as the store, GW_SEALED. */
  all(): Promise<readonly NumberedPolicy[]>;
  /** What `all` gave last; undefined until then. */
  readonly known: readonly NumberedPolicy[] | undefined;
  /** Other policies from now on. Keys of those that stay, stay; sessions that lost their right or key end. */
  set(settings: readonly PolicySettings[]): Promise<void>;
  /** @throws GatewayError GW_IOTHUB ArgumentInvalid for a policy that is not there or has its keys from the configuration. */
  regenerate(name: string, which: 'primaryKey' | 'secondaryKey' | 'both'): Promise<AccessPolicy>;
}

export interface PoliciesOptions {
  readonly store: HubStore;
  readonly settings: readonly PolicySettings[];
  readonly sealer: Sealer;
  readonly newKey: () => string;
  /** Rights or keys are others now. Resolves when sessions were told. */
  readonly onChanged: () => Promise<void>;
}

export function createPolicies({ store, settings: first, sealer, newKey, onChanged }: PoliciesOptions): Policies {
  const context = `hub/${store.hubId}/${POLICIES_KEY}`;
  let settings = first.slice(0, LIMITS.hub_policies);
  let loaded: Promise<readonly NumberedPolicy[]> | undefined;
  let known: readonly NumberedPolicy[] | undefined;

  async function keptKeys(): Promise<Record<string, KeptKeys>> {
    const kept = await store.json(POLICIES_KEY);
    return typeof kept === 'string' ? (JSON.parse(sealer.unseal(kept, context)) as Record<string, KeptKeys>) : {};
  }

  async function load(replaced: Record<string, Partial<KeptKeys>>): Promise<readonly NumberedPolicy[]> {
    const kept = await keptKeys();
    const policies = settings.map((setting) => {
      const before = kept[setting.name];
      const own = replaced[setting.name];
      const primaryKey = setting.primaryKey ?? own?.primaryKey ?? before?.primaryKey ?? newKey();
      const secondaryKey = setting.secondaryKey ?? own?.secondaryKey ?? before?.secondaryKey ?? newKey();
      const [primary, secondary] = before?.numbers ?? [0, 0];
      const numbers = [
        primaryKey === before?.primaryKey ? primary : primary + 1,
        secondaryKey === before?.secondaryKey ? secondary : secondary + 1,
      ] as const;
      return { name: setting.name, permissions: setting.permissions, primaryKey, secondaryKey, numbers };
    });
    const next = {
      // Those that are configured no longer keep their keys, so that they come back with them.
      ...Object.fromEntries(Object.entries(kept).slice(0, LIMITS.hub_policies)),
      ...Object.fromEntries(
        policies.map(({ name, primaryKey, secondaryKey, numbers }) => [name, { primaryKey, secondaryKey, numbers }]),
      ),
    };
    if (JSON.stringify(next) !== JSON.stringify(kept)) {
      await store.write({ changes: [changeOf(POLICIES_KEY, sealer.seal(JSON.stringify(next), context))] });
    }
    known = policies;
    return policies;
  }

  function reload(replaced: Record<string, Partial<KeptKeys>> = {}): Promise<readonly NumberedPolicy[]> {
    const loading = (loaded ?? Promise.resolve()).then(
      () => load(replaced),
      () => load(replaced),
    );
    loaded = loading;
    loading.catch(() => {
      if (loaded === loading) loaded = undefined;
    });
    return loading;
  }

  return {
    all: () => loaded ?? reload(),
    get known() {
      return known;
    },
    async set(next) {
      settings = next.slice(0, LIMITS.hub_policies);
      await reload();
      await onChanged();
    },
    async regenerate(name, which) {
      const setting = settings.find((one) => one.name === name);
      if (setting === undefined) throw iotHubError('ArgumentInvalid', `There is no policy "${name.slice(0, 64)}".`);
      if (setting.primaryKey !== undefined || setting.secondaryKey !== undefined) {
        throw iotHubError(
          'ArgumentInvalid',
          `The keys of the policy "${name}" stand in the configuration; change them there.`,
        );
      }
      const policies = await reload({
        [name]: {
          ...(which !== 'secondaryKey' && { primaryKey: newKey() }),
          ...(which !== 'primaryKey' && { secondaryKey: newKey() }),
        },
      });
      await onChanged();
      return policies.find((one) => one.name === name) as AccessPolicy;
    },
  };
}

/** Names a policy's key in `Principal.grantedBy`. */
export function policyGrant(policy: NumberedPolicy, which: 'primary' | 'secondary'): string {
  return `policy:${policy.name}:${which}:${policy.numbers[which === 'primary' ? 0 : 1]}`;
}
