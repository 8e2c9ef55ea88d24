//! Changes of the registry: what is acknowledged is there, and each commit is synchronous whatever the role says.

use super::fixture::{Fixture, new_namespace};
use crate::error::Error;
use crate::model::{NamespaceUpdate, NewToken, Size, TokenChange, TokenId};
use crate::storage::Backend as _;
use eventodb_protocol::{Grant, Token};

/// What a commit undoes without a word, as one does that failed on the node that has the registry.
const UNDONE: &str = "
    CREATE FUNCTION public.undo() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_TABLE_NAME = 'tokens' THEN
            DELETE FROM eventodb.tokens WHERE id = NEW.id;
        ELSIF TG_OP = 'INSERT' THEN
            DELETE FROM eventodb.namespaces WHERE incarnation = NEW.incarnation;
        ELSE
            UPDATE eventodb.namespaces SET description = OLD.description, deleted_at = OLD.deleted_at
            WHERE incarnation = OLD.incarnation;
        END IF;
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER undone AFTER INSERT OR UPDATE ON eventodb.namespaces DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION public.undo();
    CREATE CONSTRAINT TRIGGER undone AFTER INSERT ON eventodb.tokens DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION public.undo()";

/// Lets every transaction but a synchronous one fail that changes namespaces or tokens.
const CHECKED: &str = "
    CREATE FUNCTION public.check_commit() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF current_setting('synchronous_commit') <> 'on' THEN
            RAISE 'the commit is not synchronous';
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER checked AFTER INSERT OR UPDATE ON eventodb.namespaces EXECUTE FUNCTION public.check_commit();
    CREATE TRIGGER checked AFTER INSERT OR UPDATE ON eventodb.tokens EXECUTE FUNCTION public.check_commit()";

fn new_token() -> NewToken {
    NewToken {
        id: TokenId::generate(),
        namespace: "test".into(),
        origin: None,
        hash: Token::generate("test").hash(),
        description: String::new(),
        grant: Grant::everything(),
        expires_at: None,
    }
}

fn update(description: &str) -> NamespaceUpdate {
    NamespaceUpdate { description: Some(description.to_owned()), ..NamespaceUpdate::default() }
}

#[tokio::test]
async fn a_change_that_its_commit_lost_is_not_acknowledged() {
    let fixture = Fixture::new().await;
    let backend = &fixture.backend;
    fixture.sql(UNDONE).await;
    let created = backend.create(&new_namespace("another")).await;
    assert!(matches!(created, Err(Error::Unknown(_))), "{created:?}");
    let updated = backend.update("test".into(), &update("changed")).await;
    assert!(matches!(updated, Err(Error::Unknown(_))), "{updated:?}");
    let token = backend.change_tokens(TokenChange::Create(new_token())).await;
    assert!(matches!(token, Err(Error::Unknown(_))), "{token:?}");
    let deleted = backend.delete(fixture.log).await;
    assert!(matches!(deleted, Err(Error::Unknown(_))), "{deleted:?}");
}

#[tokio::test]
async fn each_change_commits_synchronously_whatever_the_role_says() {
    let fixture = Fixture::new().await;
    fixture.sql(CHECKED).await;
    let database = fixture.url.rsplit_once('/').expect("it names a database").1;
    fixture.sql(&format!("ALTER DATABASE {database} SET synchronous_commit = off")).await;
    for prepare in [true, false] {
        let server = Fixture::at(fixture.url.clone(), |settings| settings.prepare = prepare).await;
        let backend = &server.backend;
        backend.update("test".into(), &update("changed")).await.expect("it lives");
        backend.change_tokens(TokenChange::Create(new_token())).await.expect("there is room");
        let another = backend.create(&new_namespace("another")).await.expect("the name is free").incarnation;
        backend.open(another).await.expect("it lives");
        let staged = backend.stage(another).await.expect("it lives").incarnation;
        backend.keep(staged).await.expect("it is staged");
        backend.promote(staged, Size::default()).await.expect("it is staged");
        let discarded = backend.stage(staged).await.expect("it lives").incarnation;
        backend.discard(discarded).await.expect("it is staged");
        backend.delete(staged).await.expect("it answers").expect("it lives");
        backend.close().await;
    }
}
