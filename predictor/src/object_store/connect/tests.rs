use super::*;

#[test]
fn urls_become_labels_without_credentials() {
    for (url, label) in [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/a/b/", "s3://bucket/a/b"),
        ("gs://bucket/a", "gs://bucket/a"),
        ("az://container/a", "az://container/a"),
    ] {
        assert_eq!(parse_url(url).unwrap().1, label);
    }
    for url in [
        "s3://key:SECRET@bucket/a",
        "s3://SECRET@bucket/a",
        "s3://bucket/a?key=SECRET",
        "ftp://key:SECRET@host",
        "s3:///a",
        "SECRET",
        "/a/path",
    ] {
        let error = parse_url(url).unwrap_err().to_string();
        assert!(!error.contains("SECRET"), "{error}");
    }
}

#[test]
fn keys_lie_below_namespace_and_predictor() {
    let (url, _) = parse_url("s3://bucket/a/b/").unwrap();
    let mut options = Options::default();
    assert_eq!(prefix(&url, &options).unwrap().as_ref(), "a/b");
    options.namespace = "market".to_owned();
    assert!(prefix(&url, &options).is_err());
    options.predictor = "nvda".to_owned();
    assert_eq!(prefix(&url, &options).unwrap().as_ref(), "a/b/market/nvda");
    options.predictor = "../x".to_owned();
    assert!(prefix(&url, &options).is_err());
    let (url, _) = parse_url("s3://bucket").unwrap();
    assert_eq!(prefix(&url, &Options::default()).unwrap().as_ref(), "");
}

#[test]
fn a_mounted_secret_is_a_folder_of_variables() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    put("README", "x");
    std::fs::create_dir(folder.path().join("..data")).unwrap();
    let options = Options {
        credentials_file: Some(folder.path().to_owned()),
        ..Options::default()
    };
    let error = options.settings().unwrap_err().to_string();
    assert!(error.contains("AWS_ACCESS_KEY_ID"), "{error}");
    put("AWS_ACCESS_KEY_ID", "a\n");
    put("AWS_SECRET_ACCESS_KEY", "b=");
    let settings = options.settings().unwrap();
    assert_eq!(settings["aws_access_key_id"], "a");
    assert_eq!(settings["aws_secret_access_key"], "b=");
    assert_eq!(settings.len(), 2);
}

#[test]
fn files_of_credentials_come_in_two_forms() {
    let lines = "# comment\nexport AWS_ACCESS_KEY_ID=\"a\"\nAWS_SECRET_ACCESS_KEY=b=\n";
    let sections = "[default]\naws_access_key_id = a\naws_secret_access_key = b=\n[other]\naws_access_key_id = c\n";
    for text in [lines, sections] {
        let settings = parse_file(text).unwrap();
        assert_eq!(settings["aws_access_key_id"], "a");
        assert_eq!(settings["aws_secret_access_key"], "b=");
    }
    assert_eq!(parse_file("a=b\nnonsense"), Err(2));
}
