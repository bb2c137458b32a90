def test_x(cloud):
    code = cloud.run("start")
    print(cloud.told()); print(code, cloud.calls()); print(cloud.left())
    print([ (r.method, r.path, dict(r.headers)) for r in cloud.aws.faults.requests][-3:])
    import time
    t=time.time(); code=cloud.run("stop"); print(code, time.time()-t, cloud.told()[-600:]); print(cloud.calls(), cloud.left())
    assert 0
