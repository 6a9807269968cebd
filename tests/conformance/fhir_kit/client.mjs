// What users of fhir-kit-client do, against the server given; the first fault ends it.
import assert from 'node:assert/strict';
import { Client } from 'fhir-kit-client';

const [baseUrl, unique] = process.argv.slice(2);
const client = new Client({ baseUrl });
const ids = (bundle) => (bundle.entry ?? []).map((entry) => entry.resource.id);

const checks = {
  async capabilities() {
    const statement = await client.capabilityStatement();
    assert.equal(statement.fhirVersion, '4.0.1');
  },

  async crud() {
    const body = { resourceType: 'Patient', name: [{ family: unique, given: ['Анна'] }] };
    const made = await client.create({ resourceType: 'Patient', body });
    assert.equal(made.meta.versionId, '1');
    const { response } = Client.httpFor(made);
    assert.equal(response.status, 201);
    assert.equal(response.headers.get('location'), `${baseUrl}/Patient/${made.id}/_history/1`);
    const read = await client.read({ resourceType: 'Patient', id: made.id });
    assert.equal(read.name[0].given[0], 'Анна');
    const updated = await client.update({
      resourceType: 'Patient', id: made.id, body: { ...read, gender: 'female' },
    });
    assert.equal(updated.meta.versionId, '2');
    const earlier = await client.vread({ resourceType: 'Patient', id: made.id, version: '1' });
    assert.equal(earlier.gender, undefined);
    await client.delete({ resourceType: 'Patient', id: made.id });
    await assert.rejects(
      client.read({ resourceType: 'Patient', id: made.id }),
      (error) => error.response.status === 410,
    );
  },

  async conditions() {
    const identifier = [{ system: 'urn:fhir-kit', value: unique }];
    const body = { resourceType: 'Patient', identifier };
    const searchParams = { identifier: `urn:fhir-kit|${unique}` };
    const first = await client.update({ resourceType: 'Patient', searchParams, body });
    const again = await client.update({
      resourceType: 'Patient', searchParams, body: { ...body, active: true },
    });
    assert.equal(again.id, first.id);
    const options = { headers: { 'If-Match': 'W/"1"' } };
    await assert.rejects(
      client.update({ resourceType: 'Patient', id: first.id, body: again, options }),
      (error) => error.response.status === 412,
    );
    const known = { headers: { 'If-None-Exist': `identifier=urn:fhir-kit|${unique}` } };
    const found = await client.create({ resourceType: 'Patient', body, options: known });
    assert.equal(found.id, first.id);
  },

  async searchAndPages() {
    for (let number = 0; number < 5; number += 1) {
      const body = {
        resourceType: 'Patient', name: [{ family: `Page${unique}` }], birthDate: `198${number}-01-01`,
      };
      await client.create({ resourceType: 'Patient', body });
    }
    const searchParams = { family: `Page${unique}`, _sort: 'birthdate', _count: 2 };
    for (const options of [{}, { postSearch: true }]) {
      const first = await client.search({ resourceType: 'Patient', searchParams, options });
      const second = await client.nextPage({ bundle: first });
      const third = await client.nextPage({ bundle: second });
      assert.equal(client.nextPage({ bundle: third }), undefined);
      const years = [first, second, third].flatMap((page) =>
        page.entry.map((entry) => entry.resource.birthDate.slice(0, 4)));
      assert.deepEqual(years, ['1980', '1981', '1982', '1983', '1984']);
      assert.deepEqual(ids(await client.prevPage({ bundle: third })), ids(second));
      assert.equal(client.prevPage({ bundle: first }), undefined);
    }
    const several = await client.search({ searchParams: { _type: 'Patient,Device', _count: 1 } });
    assert.equal(several.type, 'searchset');
  },

  async compartmentsAndReferences() {
    const patient = await client.create({ resourceType: 'Patient', body: { resourceType: 'Patient' } });
    const observation = await client.create({
      resourceType: 'Observation',
      body: {
        resourceType: 'Observation', status: 'final', code: { text: 'x' },
        subject: { reference: `Patient/${patient.id}` },
      },
    });
    const compartment = { resourceType: 'Patient', id: patient.id };
    const found = await client.search({ resourceType: 'Observation', compartment });
    assert.deepEqual(ids(found), [observation.id]);
    const resolved = await client.resolve({
      reference: observation.subject.reference, context: observation,
    });
    assert.equal(resolved.id, patient.id);
    const everything = await client.operation({
      name: 'everything', resourceType: 'Patient', id: patient.id, method: 'GET',
    });
    assert.deepEqual(ids(everything).sort(), [patient.id, observation.id].sort());
  },

  async patch() {
    const body = { resourceType: 'Patient', gender: 'male' };
    const made = await client.create({ resourceType: 'Patient', body });
    const jsonPatch = [
      { op: 'test', path: '/gender', value: 'male' },
      { op: 'replace', path: '/gender', value: 'other' },
    ];
    const changed = await client.patch({ resourceType: 'Patient', id: made.id, jsonPatch });
    assert.equal(changed.gender, 'other');
    await assert.rejects(
      client.patch({ resourceType: 'Patient', id: made.id, jsonPatch }),
      (error) => error.response.status === 422,
    );
  },

  async bundles() {
    const urn = 'urn:uuid:4c7a38f1-5c3e-4d0e-b3ab-0d3e6b2a9c11';
    const entry = [
      {
        fullUrl: urn,
        resource: { resourceType: 'Patient', name: [{ family: `Tx${unique}` }] },
        request: { method: 'POST', url: 'Patient' },
      },
      {
        resource: {
          resourceType: 'Observation', status: 'final', code: { text: 'x' },
          subject: { reference: urn },
        },
        request: { method: 'POST', url: 'Observation' },
      },
    ];
    const body = { resourceType: 'Bundle', type: 'transaction', entry };
    const done = await client.transaction({ body });
    assert.equal(done.type, 'transaction-response');
    const searchParams = { 'subject.family': `Tx${unique}` };
    const found = await client.search({ resourceType: 'Observation', searchParams });
    assert.equal(found.entry.length, 1);
    const broken = structuredClone(body);
    broken.entry[1].resource.status = 'none such';
    await assert.rejects(client.transaction({ body: broken }), (e) => e.response.status === 422);
    const batch = await client.batch({ body: { ...broken, type: 'batch' } });
    assert.deepEqual(
      batch.entry.map((each) => each.response.status.slice(0, 3)).sort(), ['201', '422'],
    );
  },

  async history() {
    const made = await client.create({ resourceType: 'Basic', body: { resourceType: 'Basic', code: { text: 'a' } } });
    await client.update({ resourceType: 'Basic', id: made.id, body: { ...made, code: { text: 'b' } } });
    const own = await client.history({ resourceType: 'Basic', id: made.id });
    assert.deepEqual(own.entry.map((entry) => entry.resource.meta.versionId), ['2', '1']);
    const ofType = await client.history({ resourceType: 'Basic' });
    assert.equal(ofType.entry[0].resource.id, made.id);
    const all = await client.history();
    assert.equal(all.type, 'history');
  },
};

for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
  } catch (error) {
    console.error(`${name}: ${error.stack}`);
    if (error.response) console.error(JSON.stringify(error.response.data));
    process.exit(1);
  }
  console.log(name);
}
