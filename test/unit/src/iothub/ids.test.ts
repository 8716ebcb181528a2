import { describe, expect, it } from 'vitest';
import { MESSAGE_MAX_BYTES } from '../../../../src/core/message.ts';
import { isIdentityId, isMethodName, isRegistryId, isSystemModule } from '../../../../src/iothub/ids.ts';
import { QUOTAS } from '../../../../src/iothub/quotas.ts';

describe('names', () => {
  it('of identities follow the rule of the service', () => {
    for (const id of ['d', "A-1._%*?!(),:=@$'", 'x'.repeat(128), '$edgeAgent']) expect(isIdentityId(id)).toBe(true);
    for (const id of ['', 'a b', 'a/b', 'a+b', 'a#b', 'ä', 'x'.repeat(129), 'a\n'])
      expect(isIdentityId(id)).toBe(false);
  });

  it('of identities may have + # and ; in the registry alone', () => {
    for (const id of ['a+b', 'a#b', 'a;b']) expect([isRegistryId(id), isIdentityId(id)]).toEqual([true, false]);
    for (const id of ['', 'a b', 'a/b', 'ä', '+'.repeat(129), 'a\n', 'a\0']) expect(isRegistryId(id)).toBe(false);
    expect(isRegistryId(`+${'x'.repeat(127)}`)).toBe(true);
  });

  it('of methods have no blanks and no separators', () => {
    for (const name of ['reboot', 'write', 'c*name', 'a.b-c_d']) expect(isMethodName(name)).toBe(true);
    for (const name of ['', 'a b', 'a/b', 'a?b', 'a$b', 'a(b)', 'ä', 'x'.repeat(129)])
      expect(isMethodName(name)).toBe(false);
  });

  it('of system modules are two', () => {
    expect(['$edgeAgent', '$edgeHub', '$edgehub', 'm'].map(isSystemModule)).toEqual([true, true, false, false]);
  });
});

it('the hub takes as large a message as the outbox', () => {
  expect(QUOTAS.device_message_bytes).toBe(MESSAGE_MAX_BYTES);
});
